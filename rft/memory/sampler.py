"""Forecasts the memory of one sampler, for every command that samples."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rft.config.samplers.base import SamplerConfig
from rft.config.samplers.transformers import TransformersSamplerConfig
from rft.config.samplers.vllm import (
    BATCHED_TOKENS_ON_CPU,
    BATCHED_TOKENS_ON_GPU,
    CPU_CACHE_GIB,
    LORA_RANKS,
    MAX_SEQUENCES_ON_GPU,
    SHARED_GPU_UTILIZATION,
    VllmSamplerConfig,
)
from rft.memory.device import Device
from rft.memory.engine import (
    WHOLE_GPU_UTILIZATION,
    Generation,
    Serving,
    kv_bytes_per_token,
    transformers_bytes,
    vllm_bytes,
)
from rft.memory.forecast_records import KV_CACHE, ProcessMemory
from rft.memory.model_shape import ModelShape


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerFacts:
    """Facts about the samplers of a command.

    Example:
        SamplerFacts(config=VllmSamplerConfig(), dtype="bfloat16", lora_rank=32, num_adapters=2, max_requests=320, ...)
    """

    config: SamplerConfig
    """Their settings."""
    dtype: str
    """Of the model: float32, bfloat16 or float16."""
    lora_rank: int | None
    """Highest rank of the adapters beside the base model; None if the samplers serve none."""
    merges: bool = False
    """Whether the samplers merge adapters into the base model."""
    num_adapters: int
    """Adapters that an engine holds at once."""
    max_requests: int
    """Completions that one engine samples at the same time."""
    prompt_tokens: int
    """Longest prompt."""
    max_completion_tokens: int
    """Longest completion."""
    gpus: float
    """GPUs of each sampler."""


def sampler_memory(shape: ModelShape, facts: SamplerFacts, device: Device) -> ProcessMemory | None:
    """Forecast the memory of each sampler; None if the samplers of this kind load no model.

    Args:
        shape: Of the base model.
        facts: What the samplers do.
        device: The free memory of the machine.
    """
    config, gpus = facts.config, facts.gpus
    if not config.has_model or config.is_remote:
        return None
    options = config.engine if isinstance(config, VllmSamplerConfig) else {}
    rank = facts.lora_rank
    batched_tokens = (
        BATCHED_TOKENS_ON_GPU if gpus else min(BATCHED_TOKENS_ON_CPU, facts.max_requests * facts.prompt_tokens)
    )
    serving = Serving(
        dtype=facts.dtype,
        lora_rank=next(allowed for allowed in LORA_RANKS if allowed >= rank) if rank else None,
        num_adapters=facts.num_adapters,
        max_sequences=int(options.get("max_num_seqs") or min(MAX_SEQUENCES_ON_GPU, facts.max_requests + 1)),
        batched_tokens=int(options.get("max_num_batched_tokens") or batched_tokens),
        merges=facts.merges,
        gpus_spanned=max(1, config.gpus_spanned),
    )
    if isinstance(config, TransformersSamplerConfig):
        batch = Generation(
            rows=min(config.completions_per_batch, facts.max_requests),
            prompt_tokens=facts.prompt_tokens,
            completion_tokens=facts.max_completion_tokens,
        )
        parts = transformers_bytes(shape, serving, batch, on_gpu=gpus > 0)
        return ProcessMemory(name="sampler", parts=parts, gpus=gpus, count=config.num_actors)
    parts = vllm_bytes(shape, serving, on_gpu=gpus > 0)
    cache = _cache_bytes(options, sum(parts.values()), gpus, device)
    tokens = facts.prompt_tokens + facts.max_completion_tokens
    num_sequences = None
    if cache is not None:
        parts[KV_CACHE] = cache
        if per_token := kv_bytes_per_token(shape, facts.dtype):  # 0 for a `config.json` with other names
            num_sequences = cache * serving.gpus_spanned // (tokens * per_token)
    return ProcessMemory(
        name="sampler",
        parts=parts,
        gpus=gpus,
        count=config.num_actors,
        num_sequences=num_sequences,
        sequence_tokens=tokens,
    )


def _cache_bytes(options: Mapping[str, Any], other_bytes: int, gpus: float, device: Device) -> int | None:
    """Return the bytes of the key-value cache on each GPU, or in main memory; None if unknown."""
    from_environment = None if gpus else os.environ.get("VLLM_CPU_KVCACHE_SPACE")
    configured = options.get("kv_cache_memory_bytes")
    if configured is not None and not from_environment:
        return int(configured)
    if not gpus:
        return int(from_environment or CPU_CACHE_GIB) * 2**30
    if device.gpu_bytes is None:
        return None
    default = SHARED_GPU_UTILIZATION * gpus if gpus < 1 else WHOLE_GPU_UTILIZATION
    return max(0, int(float(options.get("gpu_memory_utilization") or default) * device.gpu_bytes) - other_bytes)
