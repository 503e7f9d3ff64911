"""What an engine is to be: a record of plain values that travels to the actor which builds it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rft.config.samplers.base import SamplerConfig
from rft.types import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlace:
    """Where an engine runs, and what it has there.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """Everything that building an engine takes: the run's settings of its samplers, and the facts that come with a run.

    All but `place` is the same wherever the engine runs.
    """

    sampler: SamplerConfig
    """The settings; their class says which engine is built."""
    base: Policy
    """The policy that is the base model alone."""
    dtype: str
    """float32, bfloat16 or float16."""
    serve: Literal["adapter", "merged"] = "adapter"
    """How an adapter is served: beside the base model, or merged into it."""
    max_lora_rank: int | None
    """Highest rank of the adapters to come; None where full weights come instead."""
    max_context_tokens: int
    """Prompt and completion together."""
    canaries: tuple[tuple[int, ...], ...] = ()
    """Token ids of the sequences that prove a sync; none where nobody publishes what they should score."""
    seed: int
    """Of the engine."""
    staleness: int = 0
    """Policy versions that may be in flight beside the newest."""
    num_runs: int = 1
    """Runs that share the engine, each with policies of its own."""
    place: EnginePlace
    """Where it runs."""
