"""Measures the memory of a sampler's engine in this process."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.adapters import random_adapter
from rft.config.samplers.base import SamplerConfig
from rft.config.samplers.transformers import TransformersSamplerConfig
from rft.config.samplers.vllm import VllmSamplerConfig

ENGINES = ("vllm merged", "vllm adapter", "transformers")
CACHE_BYTES = 256 * 2**20
"""Key-value cache of vLLM."""
NUM_COMPLETIONS = 8
NUM_POLICIES = 2
CANARY_TOKENS = 36


@dataclass(frozen=True, kw_only=True)
class Load:
    """The work of a sampler."""

    model: Path
    """Folder of the base model."""
    prompt_tokens: int
    """Length of the prompts."""
    completion_tokens: int
    """Longest completion."""
    lora_rank: int
    """Rank of the adapters."""


def measure_sampler(engine: str, load: Load) -> dict[str, Any]:
    """Serve two policies, each with eight completions; return the forecast's parts and the peak above the imports.

    Args:
        engine: One of `ENGINES`.
        load: The work.
    """
    from rft.sampling.build import build_engine
    from rft.sampling.engine import Request, SamplingOptions, sample_all

    parts, spec, rank = forecast(engine, load), spec_of(engine, load), load.lora_rank
    adapters = [
        random_adapter(load.model, rank=rank, alpha=2 * rank, version=version, seed=version)
        for version in range(1, 1 + NUM_POLICIES)
    ]
    requests = [
        Request(task_id=f"t{number}", index=0, prompt_ids=ids(load.prompt_tokens, seed=number), seed=number)
        for number in range(NUM_COMPLETIONS)
    ]
    import_engine(engine)
    imported = status("VmRSS")
    built = build_engine(spec)
    for adapter in adapters:
        built.load(replace(adapter, tensors=bytes(bytearray(adapter.tensors))))  # a copy, as an actor receives it
        built.score(spec.canaries)
        sample_all(built, requests, SamplingOptions(temperature=1.0, max_completion_tokens=load.completion_tokens))
    return {"parts": parts, "peak": status("VmHWM") - imported}


def config_of(engine: str) -> SamplerConfig:
    """Return the settings of an engine."""
    if engine == "transformers":
        return TransformersSamplerConfig(completions_per_batch=NUM_COMPLETIONS)
    return VllmSamplerConfig(engine={"kv_cache_memory_bytes": CACHE_BYTES})


def forecast(engine: str, load: Load) -> dict[str, int]:
    """Return the forecast's parts."""
    from rft.memory import Device, SamplerFacts, forecast_measurement, read_shape

    facts = SamplerFacts(
        config=config_of(engine),
        dtype="float32",
        lora_rank=None if engine == "vllm merged" else load.lora_rank,
        merges=engine == "vllm merged",
        num_adapters=2,
        max_requests=NUM_COMPLETIONS,
        prompt_tokens=load.prompt_tokens,
        max_completion_tokens=load.completion_tokens,
        gpus=0.0,
    )
    [process] = forecast_measurement(read_shape(load.model), facts, Device(ram_bytes=None)).processes
    return dict(process.parts)


def spec_of(engine: str, load: Load) -> Any:
    """Return the spec of an engine."""
    import torch

    from rft.sampling.spec import EnginePlace, EngineSpec
    from rft.types import Policy

    return EngineSpec(
        sampler=config_of(engine),
        base=Policy(version=0, fingerprint="base"),
        dtype="float32",
        serve="merged" if engine == "vllm merged" else "adapter",
        max_lora_rank=load.lora_rank,
        max_context_tokens=load.prompt_tokens + load.completion_tokens,
        canaries=tuple(ids(CANARY_TOKENS, seed=100 + number) for number in range(3)),
        seed=0,
        max_requests=NUM_COMPLETIONS,
        place=EnginePlace(model=load.model, num_threads=torch.get_num_threads(), num_gpus=0.0),
    )


def ids(number: int, *, seed: int) -> tuple[int, ...]:
    """Return random token ids."""
    draws = random.Random(seed)
    return tuple(draws.randrange(5, 90) for _ in range(number))


def import_engine(engine: str) -> None:
    """Import the libraries of an engine, as its constructor does."""
    if engine == "transformers":
        import rft.sampling.transformers_engine

        return
    from rft.sampling.vllm_settings import set_environment

    set_environment(on_gpu=False, has_cache_size=True)
    from vllm.engine.arg_utils import EngineArgs  # noqa: F401
    from vllm.v1.engine.llm_engine import LLMEngine  # noqa: F401

    import rft.sampling.vllm_engine  # noqa: F401


def status(name: str) -> int:
    """Return a size of this process in bytes, by its name in /proc/self/status."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024
