"""Every key of `sampler`, with its type, its default and its meaning."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from rft.config.fields import Number, Positive, PositiveSeconds, Section


class SamplerConfig(Section):
    """What all samplers share."""

    num_actors: Positive = 1
    """Number of Ray actors that sample, each with its own engine."""
    temperature: Annotated[Number, Field(gt=0)] = 1.0
    """Sampling temperature in training."""
    max_completion_tokens: Positive = 256
    """Longest completion, in tokens; a longer one is cut."""
    num_threads: Positive | None = None
    """CPU threads of each engine; null divides the cores among the engines and, above staleness 0, the learner."""
    num_gpus: Annotated[Number, Field(ge=0)] | None = None
    """GPUs of each actor, or a fraction to share one; null divides the GPUs of the cluster."""
    start_timeout_s: PositiveSeconds = 600.0
    """Seconds allowed for starting all engines."""
    stall_timeout_s: PositiveSeconds = 300.0
    """Seconds allowed until the next completion, and for a sync."""
    canary_tolerance: Annotated[Number, Field(gt=0)] | None = None
    """Largest mean gap between the log-probabilities of sampler and learner that a sync may have; null takes the one
    of the dtype: 1e-4 in float32, 0.02 in float16, 0.05 in bfloat16."""
    on_failed_proof: Literal["stop", "quarantine"] = "stop"
    """What happens when a sampler cannot prove that it serves the new policy: `stop` ends the run, `quarantine` goes on
    without that sampler while at least one other is sound."""


class ModelSamplerConfig(SamplerConfig):
    """What samplers with a model share."""

    stop: list[Annotated[str, Field(min_length=1)]] = []
    """Strings that end a completion, such as `["Question:"]`, beside the end tokens of tokenizer and generation_config.

    The completion ends with the token that completes one of them; graders see the text before it. Needed where a base
    model does not end its turns itself."""


class VllmSamplerConfig(ModelSamplerConfig):
    """vLLM, on a CPU or on GPUs."""

    kind: Literal["vllm"] = "vllm"
    serve: Literal["adapter", "merged"] | None = None
    """How an adapter is served: `adapter`, beside the base model; or `merged` into a clean copy of it, which samples
    faster and takes DoRA and any rank. null is merged in float32, and adapter in 16 bits, where a merged weight rounds
    small updates away."""
    engine: dict[str, Any] = {}
    """vLLM's own `EngineArgs` by name, such as `gpu_memory_utilization`; they override rft's settings."""


class TransformersSamplerConfig(ModelSamplerConfig):
    """Transformers' `generate`, for machines without vLLM."""

    kind: Literal["transformers"] = "transformers"
    completions_per_batch: Positive = 64
    """Completions generated in one batch."""


class FakeSamplerConfig(SamplerConfig):
    """Scripted completions without a model, to try out everything else."""

    kind: Literal["fake"] = "fake"
    script: Annotated[list[str], Field(min_length=1)] = ["1", "2", "3", "4"]
    """Completions to draw from."""
    completions_per_s: Annotated[Number, Field(gt=0)] | None = None
    """Completions that each engine finishes per second, one after the other; null finishes all at once."""
