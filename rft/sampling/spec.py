"""The spec of an engine: plain values that travel to the actor that builds the engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rft.config.samplers.base import SamplerConfig
from rft.types import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlace:
    """The place of an engine, with its resources.

    Example:
        EnginePlace(model=Path("/models/tiny"), num_threads=2, num_gpus=0.0)
    """

    model: Path
    """Folder of the base model on that machine."""
    num_threads: int
    """CPU threads."""
    num_gpus: float
    """NVIDIA GPUs, or a fraction of one; 0 runs on the CPU."""

    @property
    def on_gpu(self) -> bool:
        """Whether the engine uses a GPU."""
        return self.num_gpus > 0

    @property
    def shares_gpu(self) -> bool:
        """Whether other processes may use the engine's GPU."""
        return 0 < self.num_gpus < 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """All inputs to build an engine: the run's sampler settings, and facts about the run.

    Only `place` depends on the location of the engine.
    """

    sampler: SamplerConfig
    """The settings; their class selects the engine."""
    base: Policy
    """The policy of the base model."""
    dtype: str
    """float32, bfloat16 or float16."""
    serve: Literal["adapter", "merged"] = "adapter"
    """How an adapter is served: beside the base model, or merged into it."""
    max_lora_rank: int | None
    """Highest rank of adapters; None for whole models."""
    max_context_tokens: int
    """Maximum tokens of prompt and completion together."""
    canaries: tuple[tuple[int, ...], ...] = ()
    """Token ids of the canaries; empty without a learner."""
    seed: int
    """Seed of the engine."""
    staleness: int = 0
    """Policy versions that may be in flight besides the newest."""
    num_runs: int = 1
    """Number of runs that share the engine, each with its own policies."""
    sleeps: bool = False
    """Whether the engine frees its GPU memory while the learner works."""
    max_requests: int = 128
    """Highest number of completions that are requested of the engine at the same time."""
    place: EnginePlace
    """Place of the engine."""
