"""Forecasts the memory of a training run from its configuration and the shape of its model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rft.config import RunConfig
from rft.config.samplers.base import SamplerConfig
from rft.config.samplers.vllm import (
    BATCHED_TOKENS_ON_GPU,
    CPU_CACHE_GIB,
    LORA_RANKS,
    MAX_SEQUENCES_ON_GPU,
    SHARED_GPU_UTILIZATION,
    VllmSamplerConfig,
)
from rft.memory.device import Device
from rft.memory.engine import WHOLE_GPU_UTILIZATION, Serving, bytes_of, engine_bytes, kv_bytes_per_token
from rft.memory.forecast import KV_CACHE, Forecast, ProcessMemory
from rft.memory.learner import resting_bytes
from rft.memory.model_shape import ModelShape
from rft.memory.remedies import remedies
from rft.memory.sizes import Sizes, choose_sizes, learner_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """Facts about a run that its configuration lacks.

    Example:
        RunFacts(shape=read_shape(folder), prompt_tokens=250, serve="adapter", ...)
    """

    shape: ModelShape
    """Of the base model."""
    prompt_tokens: int
    """Longest prompt."""
    serve: Literal["adapter", "merged"]
    """How the samplers serve an adapter."""
    learner_gpus: float
    """GPUs of each rank of the learner."""
    resting_gpus: float = 0.0
    """GPUs that sleeping samplers leave to each rank while they are awake; 0 if none sleeps."""
    sampler_gpus: float
    """GPUs of each sampler."""
    max_requests: int
    """Completions that one engine samples at the same time."""
    others: tuple[ProcessMemory, ...] = ()
    """Processes beside learner and samplers, such as reward models."""


def forecast_run(run: RunConfig, facts: RunFacts, device: Device, sizes: Sizes | None = None) -> Forecast:
    """Forecast the memory of a run.

    Args:
        run: The configuration.
        facts: Further facts.
        device: The free memory of the machine.
        sizes: The sizes of an earlier start of the run; None chooses them.
    """
    sizes = sizes or sizes_of(run, facts, device)
    processes = [*_learner(run, facts, sizes), *_sampler(run, facts, device), *facts.others, *_weights(run, facts)]
    forecast = Forecast(processes=tuple(processes), device=device, sizes=sizes)
    return replace(forecast, remedies=tuple(remedies(run, facts.shape, forecast, facts.prompt_tokens)))


def sizes_of(run: RunConfig, facts: RunFacts, device: Device) -> Sizes:
    """Choose the sizes of the learner's step for this device."""
    share = min(1.0, facts.learner_gpus)
    return choose_sizes(
        run,
        facts.shape,
        prompt_tokens=facts.prompt_tokens,
        on_gpu=share > 0,
        gpu_bytes=int(share * device.gpu_bytes) if share and device.gpu_bytes else None,
    )


def _learner(run: RunConfig, facts: RunFacts, sizes: Sizes) -> Sequence[ProcessMemory]:
    parts = learner_bytes(run, facts.shape, sizes, prompt_tokens=facts.prompt_tokens, on_gpu=facts.learner_gpus > 0)
    if not parts:
        return []
    rank = run.learner.lora.rank if run.learner.lora else None
    dtype = run.model.weights_dtype(on_gpu=True)
    return [
        ProcessMemory(
            name="learner",
            parts=parts,
            gpus=facts.learner_gpus,
            count=run.learner.num_workers,
            resting_bytes=resting_bytes(facts.shape, lora_rank=rank, dtype=dtype) + parts.get("reference", 0),
            resting_gpus=facts.resting_gpus,
        )
    ]


def _sampler(run: RunConfig, facts: RunFacts, device: Device) -> Sequence[ProcessMemory]:
    sampler, shape, gpus = run.sampler, facts.shape, facts.sampler_gpus
    if not sampler.has_model or sampler.is_remote:
        return []
    options = sampler.engine if isinstance(sampler, VllmSamplerConfig) else {}
    dtype = run.model.weights_dtype(on_gpu=gpus > 0)
    rank = run.learner.lora.rank if run.learner.lora and facts.serve == "adapter" else None
    serving = Serving(
        dtype=dtype,
        lora_rank=next(allowed for allowed in LORA_RANKS if allowed >= rank) if rank else None,
        num_adapters=run.loop.staleness + 2,
        max_sequences=int(options.get("max_num_seqs") or min(MAX_SEQUENCES_ON_GPU, facts.max_requests + 1)),
        batched_tokens=int(options.get("max_num_batched_tokens") or BATCHED_TOKENS_ON_GPU),
        gpus_spanned=max(1, sampler.gpus_spanned),
    )
    parts = engine_bytes(shape, serving, on_gpu=gpus > 0)
    cache = _cache_bytes(sampler, options, sum(parts.values()), gpus, device)
    tokens = facts.prompt_tokens + sampler.max_completion_tokens
    num_sequences = None
    if cache is not None:
        parts[KV_CACHE] = cache
        if per_token := kv_bytes_per_token(shape, dtype):  # 0 for a `config.json` with other names
            num_sequences = cache * serving.gpus_spanned // (tokens * per_token)
    return [
        ProcessMemory(
            name="sampler",
            parts=parts,
            gpus=gpus,
            count=sampler.num_actors,
            num_sequences=num_sequences,
            sequence_tokens=tokens,
        )
    ]


def _cache_bytes(
    sampler: SamplerConfig, options: Mapping[str, Any], other_bytes: int, gpus: float, device: Device
) -> int | None:
    """Return the bytes of the key-value cache on each GPU, or in main memory; None if unknown."""
    if not isinstance(sampler, VllmSamplerConfig):
        return None  # `generate` keeps the keys and values of the current batch only
    if (configured := options.get("kv_cache_memory_bytes")) is not None:
        return int(configured)
    if not gpus:
        return int(float(os.environ.get("VLLM_CPU_KVCACHE_SPACE") or CPU_CACHE_GIB) * 2**30)
    if device.gpu_bytes is None:
        return None
    default = SHARED_GPU_UTILIZATION * gpus if gpus < 1 else WHOLE_GPU_UTILIZATION
    return max(0, int(float(options.get("gpu_memory_utilization") or default) * device.gpu_bytes) - other_bytes)


def _weights(run: RunConfig, facts: RunFacts) -> Sequence[ProcessMemory]:
    """Return the copies of the weights between learner and samplers in main memory, if all weights are trained.

    Ray's object store holds every kept version and the one on its way. Samplers and driver read them there, tensor by
    tensor. The learner's own copies are mapped files, whose pages the system can drop; what it copies while it packs a
    version is freed before this version enters the store.
    """
    if run.learner.lora is not None or not run.learner.trains_a_model:
        return []
    once = facts.shape.num_weights * bytes_of(run.model.weights_dtype(on_gpu=facts.learner_gpus > 0))
    return [ProcessMemory(name="weights in transit", parts={"object store": (run.loop.staleness + 2) * once})]
