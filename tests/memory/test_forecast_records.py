"""The forecast of a run, and what to change where it does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rft.config import RunConfig
from rft.memory import Device, Forecast, ModelShape, ProcessMemory, RunFacts, forecast_run
from rft.memory.engine import kv_bytes_per_token
from rft.memory.learner import resting_bytes
from rft.memory.model_shape import shape_of

GB = 10**9
MakeRun = Callable[..., RunConfig]


@pytest.fixture
def make_forecast(make_run: MakeRun, small: ModelShape) -> Callable[..., Forecast]:
    """`make_forecast(gpu_gb, gpus=0.5, shape=..., learner={...})`: learner and sampler with this part of a GPU each."""

    def make(
        gpu_gb: float | None, *, gpus: float = 0.5, shape: ModelShape = small, ram_gb: float = 1000, **changes: Any
    ) -> Forecast:
        facts = RunFacts(
            shape=shape,
            prompt_tokens=250,
            serve="adapter",
            learner_gpus=changes.pop("learner_gpus", gpus),
            resting_gpus=changes.pop("resting_gpus", 0.0),
            sampler_gpus=gpus,
            max_requests=320,
            others=changes.pop("others", ()),
        )
        device = Device(ram_bytes=int(ram_gb * GB), gpu_bytes=int(gpu_gb * GB) if gpu_gb else None)
        return forecast_run(make_run(**changes), facts, device)

    return make


def of(forecast: Forecast, name: str) -> ProcessMemory:
    return next(process for process in forecast.processes if process.name == name)


def test_the_cache_takes_the_rest_of_the_share(make_forecast: Callable[..., Forecast], small: ModelShape) -> None:
    # Keys and values of 24 layers, 128 wide, in 16 bits.
    assert kv_bytes_per_token(small, "bfloat16") == 2 * 24 * 128 * 2
    sampler = of(make_forecast(24), "sampler")
    assert sampler.num_bytes == int(0.8 * 0.5 * 24 * GB)
    assert sampler.parts["weights"] == 2 * 494_032_768
    # Two adapters of rank 32 in 16 bits, of 549,888 inputs and outputs.
    assert sampler.parts["adapter"] == 2 * 32 * 549_888 * 2
    assert sampler.num_sequences == sampler.parts["key-value cache"] // (762 * 12_288)
    alone = of(make_forecast(24, gpus=1.0), "sampler")
    assert alone.num_bytes == int(0.92 * 24 * GB)


def test_vllms_own_options_count(make_forecast: Callable[..., Forecast]) -> None:
    engine = {"kv_cache_memory_bytes": 7_620_000_000}
    sampler = of(make_forecast(24, sampler={"engine": engine}), "sampler")
    assert sampler.parts["key-value cache"] == 7_620_000_000
    assert sampler.num_sequences == 7_620_000_000 // (762 * 12_288) == 813
    split = of(make_forecast(24, gpus=2.0, sampler={"engine": {"tensor_parallel_size": 2}}), "sampler")
    assert split.parts["weights"] == 494_032_768


def test_everything_fits(make_forecast: Callable[..., Forecast]) -> None:
    forecast = make_forecast(24)
    assert forecast.problems() == []
    assert forecast.remedies == ()
    assert forecast.warning() is None


def test_a_learner_that_does_not_fit(make_forecast: Callable[..., Forecast]) -> None:
    trl = {"gradient_checkpointing": False}
    forecast = make_forecast(24, learner={"completions_per_micro_batch": 16, "trl": trl})
    [problem] = forecast.problems()
    assert problem.startswith("the learner needs 22.8 GB (weights 1.0 GB + adapter 0.1 GB + optimizer 0.2 GB + ")
    assert problem.endswith("but 0.5 of a GPU has 12.0 GB")
    assert [remedy.partition(" (")[0] for remedy in forecast.remedies] == [
        "learner.completions_per_micro_batch=1",
        "learner.trl.gradient_checkpointing=true",
        "learner.num_gpus=1 with sampler.num_gpus=1, on two GPUs",
        "sampler.max_completion_tokens=256",
        "use a smaller model, or a machine with more memory",
    ]
    warning = forecast.warning()
    assert warning is not None
    assert "the cheapest first: learner.completions_per_micro_batch=1 (the learner then needs 3.4 GB)" in warning


def test_a_cache_without_room(make_forecast: Callable[..., Forecast], small: ModelShape) -> None:
    large = replace(small, num_weights=15 * GB // 2)
    forecast = make_forecast(24, shape=large)
    assert "the sampler's key-value cache of 0.0 MB holds no sequence of 762 tokens" in forecast.problems()
    assert "sampler.engine.tensor_parallel_size=2, which divides the model among 2 GPUs" in forecast.remedies


def test_all_weights_need_copies_in_main_memory(make_forecast: Callable[..., Forecast], small: ModelShape) -> None:
    once = 2 * small.num_weights
    # The object store holds the current version and the next one; at staleness 1, an older one as well.
    transit = of(make_forecast(141, learner={"adapter": "full"}), "weights in transit")
    assert transit.parts == {"object store": 2 * once}
    ahead = {"learner": {"adapter": "full"}, "sampler": {"num_actors": 2}, "loop": {"staleness": 1}}
    assert of(make_forecast(141, **ahead), "weights in transit").parts == {"object store": 3 * once}
    forecast = make_forecast(141, ram_gb=1.5, learner={"adapter": "full"})
    assert forecast.problems() == [
        "the processes need 2.0 GB of main memory (weights in transit 2.0 GB), but 1.5 GB are free"
    ]


@pytest.mark.parametrize(("resting_gpus", "fits"), [(0.25, False), (0.3, True)])
def test_a_learner_beside_engines_that_are_awake(
    make_forecast: Callable[..., Forecast], resting_gpus: float, fits: bool
) -> None:
    forecast = make_forecast(24, learner_gpus=0.85, resting_gpus=resting_gpus, learner={"adapter": "full"})
    # 494,032,768 weights with two moments, in float32, and CUDA's libraries.
    assert of(forecast, "learner").resting_bytes == 12 * 494_032_768 + 700_000_000
    expected = (
        "the learner keeps 6.6 GB while the samplers are awake, which leave it 6.0 GB; they sleep only during its step"
    )
    assert forecast.problems() == ([] if fits else [expected])
    assert forecast.remedies[:1] == (() if fits else ("a smaller sampler.num_gpus with a larger learner.num_gpus",))


def test_a_frozen_model_at_rest(small: ModelShape) -> None:
    # In 16 bits; the adapter and its moments are in float32.
    expected = 2 * 494_032_768 + 12 * 32 * 549_888 + 700_000_000
    assert resting_bytes(small, lora_rank=32, dtype="bfloat16") == expected


def test_other_processes_are_counted(make_forecast: Callable[..., Forecast]) -> None:
    judge = ProcessMemory(name="reward model", gpus=0.1, parts={"weights": 3 * GB})
    [problem] = make_forecast(24, others=(judge,)).problems()
    assert problem == "the reward model needs 3.0 GB (weights 3.0 GB), but 0.1 of a GPU has 2.4 GB"


def test_without_a_gpu_all_share_the_main_memory(make_forecast: Callable[..., Forecast]) -> None:
    forecast = make_forecast(None, gpus=0, ram_gb=2)
    assert of(forecast, "sampler").parts["key-value cache"] == 2**30
    [problem] = forecast.problems()
    assert problem.startswith("the processes need ")
    assert problem.endswith("but 2.0 GB are free")


def test_unknown_memory_is_no_problem(make_forecast: Callable[..., Forecast]) -> None:
    forecast = make_forecast(None)
    assert of(forecast, "sampler").num_sequences is None
    assert forecast.problems() == []


def test_rows(make_forecast: Callable[..., Forecast]) -> None:
    rows = make_forecast(24).rows()
    assert list(rows) == ["learner memory", "sampler memory"]
    assert rows["learner memory"].startswith("8.8 GB of 12.0 GB on 0.5 of a GPU: weights 1.0 GB + ")
    assert rows["sampler memory"].endswith("; the cache holds 654 sequences of 762 tokens")


@pytest.mark.parametrize("gpus", [0.0, 0.5])
def test_a_model_whose_config_has_other_names(make_forecast: Callable[..., Forecast], gpus: float) -> None:
    unknown = shape_of({"model_type": "mpt", "d_model": 64, "n_layers": 2, "vocab_size": 100})
    sampler = of(make_forecast(24, gpus=gpus, shape=unknown), "sampler")
    assert sampler.num_sequences is None
    assert sampler.parts["key-value cache"] > 0
