"""Transformers, one model in each sampler's own process."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from rft.config.fields import Positive
from rft.config.samplers.base import ModelSamplerConfig


class TransformersSamplerConfig(ModelSamplerConfig):
    """Transformers' `generate`, for machines without vLLM."""

    engine_class: ClassVar[str] = "rft.sampling.transformers_engine:TransformersEngine"
    libraries: ClassVar[tuple[str, ...]] = ("transformers", "torch", "peft")

    kind: Literal["transformers"] = "transformers"
    completions_per_batch: Positive = 64
    """Completions generated in one batch."""

    @classmethod
    def for_one_prompt(cls, num_completions: int) -> Self:
        """Return settings that sample all completions in one batch."""
        return cls(completions_per_batch=num_completions)
