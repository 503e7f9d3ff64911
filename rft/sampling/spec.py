"""What an engine is to be, as plain values that travel to the actor which builds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rft.types import Policy

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM allows for `max_lora_rank`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """Everything that building an engine takes."""

    kind: Literal["vllm", "transformers", "fake"]
    """Which library stands behind it."""
    model: Path
    """Folder of the base model."""
    base: Policy
    """The policy that is the base model alone."""
    max_lora_rank: int | None
    """Highest rank of the adapters to come; None where full weights come instead."""
    serve: Literal["adapter", "merged"] = "adapter"
    """How vLLM serves an adapter: beside the base model, or merged into it."""
    canaries: tuple[tuple[int, ...], ...] = ()
    """Token ids of the sequences that prove a sync; none where nobody publishes what they should score."""
    staleness: int = 0
    """Policy versions that may be in flight beside the newest."""
    num_runs: int = 1
    """Runs that share the engine, each with policies of its own."""
    dtype: str
    """float32, bfloat16 or float16."""
    max_context_tokens: int
    """Prompt and completion together."""
    seed: int
    """Of the engine."""
    num_threads: int
    """CPU threads."""
    on_gpu: bool
    """Whether an NVIDIA GPU is to be used."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What only this kind of engine takes."""
