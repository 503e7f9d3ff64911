"""vLLM's settings: its arguments, and the environment that it reads during its import."""

from __future__ import annotations

import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any

from rft.config.samplers.vllm import (
    BATCHED_TOKENS_ON_CPU,
    BATCHED_TOKENS_ON_GPU,
    CPU_CACHE_GIB,
    LORA_RANKS,
    MAX_SEQUENCES_ON_GPU,
    SHARED_GPU_UTILIZATION,
    VllmSamplerConfig,
)
from rft.sampling.merging import BaseWeights
from rft.sampling.spec import EnginePlace, EngineSpec


def engine_arguments(spec: EngineSpec, base: BaseWeights) -> dict[str, Any]:
    """Return the `EngineArgs` by name; `sampler.engine` overrides these settings.

    Args:
        spec: Spec of the engine.
        base: The base model's tensors.
    """
    sampler, place = spec.sampler, spec.place
    assert isinstance(sampler, VllmSamplerConfig)
    lora: dict[str, Any] = {}
    if spec.serve == "adapter" and spec.max_lora_rank is not None:
        lora = {
            "enable_lora": True,
            "max_lora_rank": next(rank for rank in LORA_RANKS if rank >= spec.max_lora_rank),
            # A new version is loaded before the oldest one is removed.
            "max_loras": (spec.staleness + 2) * spec.num_runs,
            # Not the output embedding: with an adapter on it, vLLM computes wrong log-probabilities of a prompt (it
            # drops the adapter there, and on a CPU it fails), and those prove the sync. PEFT leaves it out as well.
            "lora_target_modules": base.linear_names(),
        }
    return {
        "model": str(place.model),
        "dtype": spec.dtype,
        "seed": spec.seed,
        "max_model_len": spec.max_context_tokens,
        "logprobs_mode": "processed_logprobs",
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "worker_extension_cls": "rft.sampling.vllm_worker.ReadBackWorker",
        # Canaries precede waiting completions; several runs take turns.
        "scheduling_policy": "priority",
        **lora,
        **(_gpu_arguments(spec) if place.on_gpu else _cpu_arguments(spec.max_context_tokens)),
        **_sharing_arguments(sampler, place),
        **({"enable_sleep_mode": True} if spec.sleeps else {}),
        **sampler.engine,
        **(_float32_head(sampler) if spec.dtype != "float32" else {}),
    }


def _float32_head(sampler: VllmSamplerConfig) -> dict[str, Any]:
    # Logits in 16 bits are the largest difference between sampler and learner; the learner computes them in float32,
    # too (rft.learning.float32_head).
    return {"hf_overrides": {"head_dtype": "float32"} | (sampler.engine.get("hf_overrides") or {})}


def _sharing_arguments(sampler: VllmSamplerConfig, place: EnginePlace) -> dict[str, Any]:
    # vLLM takes nearly the whole GPU unless a limit is set.
    shared = {"gpu_memory_utilization": SHARED_GPU_UTILIZATION * place.num_gpus} if 0 < place.num_gpus < 1 else {}
    # Inside a placement group vLLM would request more Ray actors, although it already has its GPUs.
    spanning = {"distributed_executor_backend": "mp"} if sampler.gpus_spanned > 1 else {}
    return shared | spanning


def _gpu_arguments(spec: EngineSpec) -> dict[str, Any]:
    # `score` sends each canary once, and the first one also through the prefix cache.
    needed = spec.max_requests + len(spec.canaries) + 1
    return {"max_num_seqs": min(MAX_SEQUENCES_ON_GPU, needed), "max_num_batched_tokens": BATCHED_TOKENS_ON_GPU}


def _cpu_arguments(max_context_tokens: int) -> dict[str, Any]:
    # A prompt prefilled in chunks rewinds its random generator, which vLLM cannot do on a CPU ("CPU Generator does not
    # use offset"); so prompts are prefilled whole.
    return {
        "enforce_eager": True,
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(BATCHED_TOKENS_ON_CPU, max_context_tokens),
        # The smallest that the attention kernel takes: only whole blocks of a prompt are computed once for its group.
        "block_size": 32,
    }


def set_environment(on_gpu: bool, *, has_cache_size: bool = False) -> None:
    """Set the environment that vLLM reads during its import, without changing the user's values.

    Args:
        on_gpu: Whether the engine has a GPU.
        has_cache_size: Whether `sampler.engine` sets the size of the key-value cache, which the environment overrides.
    """
    defaults = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    if on_gpu:
        # rft samples without top-k and top-p, the only work of FlashInfer's sampler. vLLM would compile it for minutes
        # on GPUs since Hopper, where nvcc and ninja are installed.
        defaults |= {"VLLM_USE_FLASHINFER_SAMPLER": "0"}
    else:
        # Threads bound to cores stop whenever another process has the core: the learner, or a second engine.
        # Compiling costs 3 s and a C++ compiler, to gather log-probabilities a little faster.
        defaults |= {
            **({} if has_cache_size else {"VLLM_CPU_KVCACHE_SPACE": str(CPU_CACHE_GIB)}),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "TORCHDYNAMO_DISABLE": "1",
        }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    # Hides messages of vLLM's import, before vLLM reads its logging level.
    warnings.filterwarnings("ignore", category=FutureWarning, module="vllm")
    logging.getLogger("vllm").setLevel(logging.ERROR)


def inspect_here(model: Path) -> None:
    """Let vLLM inspect the class of a model in this process.

    vLLM would start another Python for the inspection, to avoid initializing CUDA here, and cache the result. A CPU
    needs no such process. It would import vLLM again, which makes the first start on a machine 10 s longer.

    Args:
        model: Folder of the base model.
    """
    from vllm import ModelRegistry

    architectures = json.loads((model / "config.json").read_text(encoding="utf-8")).get("architectures") or ()
    for name in architectures:
        if name in ModelRegistry.models:
            ModelRegistry.register_model(name, ModelRegistry.models[name].load_model_cls())
