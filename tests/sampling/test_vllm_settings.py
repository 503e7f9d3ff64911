"""The arguments and the environment of vLLM, worked out by hand."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rft.config.samplers.vllm import VllmSamplerConfig
from rft.sampling.spec import EnginePlace, EngineSpec
from rft.sampling.vllm_settings import engine_arguments, set_environment
from rft.types import Policy

ON_CPU = EngineSpec(
    sampler=VllmSamplerConfig(),
    base=Policy(version=0, fingerprint="base"),
    max_lora_rank=16,
    dtype="float32",
    max_context_tokens=1024,
    canaries=((1, 2),) * 3,
    seed=0,
    max_requests=320,
    place=EnginePlace(model=Path("nowhere"), num_threads=1, num_gpus=0),
)
ON_GPU = replace(ON_CPU, dtype="bfloat16", place=replace(ON_CPU.place, num_gpus=1.0))
BASE: Any = SimpleNamespace(linear_names=lambda: ["q_proj"])


def arguments(spec: EngineSpec, **changes: Any) -> dict[str, Any]:
    return engine_arguments(replace(spec, **changes), BASE)


@pytest.mark.parametrize(
    ("max_requests", "canaries", "expected"),
    [(320, 3, 324), (1020, 3, 1024), (1021, 3, 1024), (5000, 3, 1024), (64, 0, 65)],
)
def test_a_gpu_holds_all_completions_in_flight_and_the_canaries(
    max_requests: int, canaries: int, expected: int
) -> None:
    found = arguments(ON_GPU, max_requests=max_requests, canaries=((1, 2),) * canaries)
    assert (found["max_num_seqs"], found["max_num_batched_tokens"]) == (expected, 8192)


def test_a_cpu_keeps_the_sizes_of_vllm() -> None:
    found = arguments(ON_CPU)
    assert "max_num_seqs" not in found
    assert found["max_num_batched_tokens"] == 2048
    assert arguments(ON_CPU, max_context_tokens=4096)["max_num_batched_tokens"] == 4096


def test_options_of_vllm_come_last() -> None:
    sampler = VllmSamplerConfig(engine={"max_num_seqs": 7, "async_scheduling": False})
    found = arguments(ON_GPU, sampler=sampler)
    assert (found["max_num_seqs"], found["async_scheduling"]) == (7, False)


@pytest.mark.parametrize("spec", [ON_CPU, ON_GPU])
@pytest.mark.parametrize("num_runs", [1, 2])
def test_requests_have_priorities(spec: EngineSpec, num_runs: int) -> None:
    assert arguments(spec, num_runs=num_runs)["scheduling_policy"] == "priority"


def test_a_gpu_samples_without_flashinfer_unless_the_user_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "VLLM_USE_FLASHINFER_SAMPLER"
    for variable in (name, "VLLM_CPU_KVCACHE_SPACE"):
        monkeypatch.setenv(variable, "restored afterwards")
        monkeypatch.delenv(variable)
    set_environment(on_gpu=True)
    assert os.environ[name] == "0"
    assert "VLLM_CPU_KVCACHE_SPACE" not in os.environ
    monkeypatch.setenv(name, "1")
    set_environment(on_gpu=True)
    assert os.environ[name] == "1"


@pytest.mark.parametrize(("has_cache_size", "expected"), [(False, "1"), (True, None)])
def test_the_environment_leaves_a_configured_cache_alone(
    monkeypatch: pytest.MonkeyPatch, has_cache_size: bool, expected: str | None
) -> None:
    for variable in ("VLLM_CPU_KVCACHE_SPACE", "VLLM_CPU_OMP_THREADS_BIND", "TORCHDYNAMO_DISABLE"):
        monkeypatch.setenv(variable, "restored afterwards")
        monkeypatch.delenv(variable)
    set_environment(on_gpu=False, has_cache_size=has_cache_size)
    assert os.environ.get("VLLM_CPU_KVCACHE_SPACE") == expected


@pytest.mark.parametrize(("dtype", "overrides"), [("bfloat16", "float32"), ("float16", "float32"), ("float32", None)])
def test_logits_of_models_in_16_bits_are_computed_in_float32(dtype: str, overrides: str | None) -> None:
    found = arguments(ON_GPU, dtype=dtype)
    assert found.get("hf_overrides", {}).get("head_dtype") == overrides


def test_overrides_of_the_model_join() -> None:
    sampler = VllmSamplerConfig(engine={"hf_overrides": {"rope_theta": 1e6}})
    assert arguments(ON_GPU, sampler=sampler)["hf_overrides"] == {"head_dtype": "float32", "rope_theta": 1e6}
    sampler = VllmSamplerConfig(engine={"hf_overrides": {"head_dtype": "model"}})
    assert arguments(ON_GPU, sampler=sampler)["hf_overrides"] == {"head_dtype": "model"}


@pytest.mark.parametrize(("engine", "expected"), [({}, 36), ({"block_size": 16}, 36), ({"block_size": 64}, 132)])
def test_canaries_fill_two_blocks(engine: dict[str, Any], expected: int) -> None:
    assert VllmSamplerConfig(engine=engine).num_canary_tokens == expected


@pytest.mark.parametrize("sleeps", [False, True])
def test_engines_that_sleep_allocate_memory_for_it(sleeps: bool) -> None:
    assert arguments(ON_GPU, sleeps=sleeps).get("enable_sleep_mode", False) is sleeps
