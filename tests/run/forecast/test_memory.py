"""The memory forecast of a run, and the sizes that it keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rft.cluster import Shares
from rft.config import EvaluateConfig, RunConfig
from rft.config.commands import load_evaluation, load_training
from rft.errors import UsageError
from rft.memory import Device, Forecast, ModelShape, RunForecast, Sizes
from rft.memory.model_shape import shape_of
from rft.models.base_model import EMBEDDED_MODELS
from rft.run.forecast.memory import (
    forecast_evaluation_here,
    forecast_here,
    forecast_of,
    forecast_of_evaluation,
    forecast_with_sleep,
    recorded_sizes,
    refuse_memory,
)
from rft.run.teachers.read_teachers import Teacher
from rft.types import Policy

PREPARED: Any = SimpleNamespace(
    teachers=(),
    longest_row_tokens=0,
    rank_below=0,
    model=EMBEDDED_MODELS["embedded:tiny"],
    longest_prompt_tokens=72,
    tasks=SimpleNamespace(train=[1] * 8, validation=[], test=[]),
    held_out=[],
    graders=(),
)


def run_of(*words: str) -> RunConfig:
    return load_training(["experiment=quickstart", *words], "/nowhere")


@pytest.fixture
def forecast() -> Callable[..., Forecast]:
    """`forecast("learner.adapter=full", ram_gb=1)`: of the quickstart, on a CPU."""

    def make(*words: str, ram_gb: float = 10, sizes: Sizes | None = None) -> Forecast:
        device = Device(ram_bytes=int(ram_gb * 10**9))
        return forecast_of(run_of(*words), PREPARED, device, learner_gpus=0, sampler_gpus=0, sizes=sizes)

    return make


def test_a_teacher_has_engines_of_its_own() -> None:
    run = run_of("learner=distill", "teacher.path=embedded:tiny", "sampler=transformers", "teacher.num_actors=2")
    base = Policy(version=0, fingerprint="teacher")
    of_sums, of_gcd = (
        Teacher(model=PREPARED.model, name="tiny", base=base, context_tokens=None, families=families)
        for families in ((), ("gcd",))
    )
    prepared: Any = SimpleNamespace(**vars(PREPARED) | {"teachers": (of_sums, of_gcd)})
    made = forecast_of(run, prepared, Device(ram_bytes=10**10), learner_gpus=0, sampler_gpus=0)
    teacher, other = made.processes[-2:]
    assert (other.name, other.parts) == ("teacher of gcd", teacher.parts)
    assert (teacher.name, teacher.count) == ("teacher", 2)
    # A logit and a log-probability for each of 104 words, at every token of the longest sequence.
    assert teacher.parts["scores"] == 2 * 4 * 104 * (72 + run.sampler.max_completion_tokens)
    assert teacher.parts["weights"] == next(one for one in made.processes if one.name == "sampler").parts["weights"]


def test_the_quickstart(forecast: Callable[..., Forecast]) -> None:
    made = forecast()
    assert made.sizes == Sizes(completions_per_micro_batch=8)
    assert [process.name for process in made.processes] == ["learner", "sampler"]
    assert made.facts()["sizes"] == {
        "completions_per_micro_batch": 8,
        "gradient_checkpointing": False,
        "samplers_sleep": False,
    }
    # 3 x (4 x 128 x 128 + 3 x 128 x 352 + 2 x 128) + 105 x 128 weights in float32.
    assert made.facts()["memory_bytes"]["learner"]["weights"] == 4 * 616_320


def evaluation(*words: str) -> EvaluateConfig:
    of_all = ["model.path=embedded:tiny", "data.test=test.jsonl", "graders.correct.use=exact"]
    return load_evaluation([*of_all, "sampler.max_completion_tokens=48", *words], "/nowhere")


def measured(*words: str, sampler_gpus: float = 0.0, ram_gb: float = 10, gpu_gb: float | None = None) -> Forecast:
    shares = Shares(sampler_threads=1, learner_threads=1, sampler_gpus=sampler_gpus, learner_gpus=0.0)
    device = Device(ram_bytes=int(ram_gb * 10**9), gpu_bytes=int(gpu_gb * 10**9) if gpu_gb else None)
    return forecast_of_evaluation(evaluation(*words), PREPARED, None, device, shares)


def test_a_measurement_loads_samplers_only() -> None:
    made = measured("sampler.num_actors=2")
    [sampler] = made.processes
    assert (sampler.name, sampler.count, sampler.parts["key-value cache"]) == ("sampler", 2, 2**30)
    assert made.warning() is None
    [problem] = measured("sampler.num_actors=2", ram_gb=2).problems()
    assert problem.startswith("the processes need ")
    assert problem.endswith("but 2.0 GB are free")


def test_samplers_of_a_measurement_that_share_a_gpu() -> None:
    words = ("sampler.num_actors=2", "sampler.engine.kv_cache_memory_bytes=1000")
    made = measured(*words, sampler_gpus=0.5, gpu_gb=24)
    assert made.problems() == ["the sampler's key-value cache of 0.0 MB holds no sequence of 120 tokens"]
    assert made.remedies == (
        "sampler.num_gpus=1 with fewer samplers",
        "sampler.engine.tensor_parallel_size=2, which divides the model among 2 GPUs",
        "use a smaller model, or a machine with more memory",
    )


def test_a_measurement_on_a_cluster_has_no_forecast_before_its_nodes_are_known() -> None:
    assert forecast_evaluation_here(evaluation("cluster=attach"), PREPARED, None) is None


def test_a_cluster_has_no_forecast_before_its_nodes_are_known() -> None:
    assert forecast_here(run_of("cluster=attach"), PREPARED) is None


def test_earlier_sizes_are_kept(forecast: Callable[..., Forecast], tmp_path: Path) -> None:
    assert recorded_sizes(tmp_path) is None
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"seed": 0}))
    assert recorded_sizes(tmp_path) is None
    sizes = Sizes(completions_per_micro_batch=2, gradient_checkpointing=True)
    manifest.write_text(json.dumps({"seed": 0, **forecast(sizes=sizes).facts()}))
    assert recorded_sizes(tmp_path) == sizes


QWEN2_5_3B = {
    "model_type": "qwen2",
    "num_hidden_layers": 36,
    "hidden_size": 2048,
    "intermediate_size": 11_008,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "tie_word_embeddings": True,
}


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunForecast]:
    """`on_gpu("learner.adapter=full", gpu_gb=80)`: of Qwen2.5 3B, with half a GPU for sampler and learner each."""

    def shape(folder: Path) -> ModelShape:
        return shape_of(QWEN2_5_3B)

    monkeypatch.setattr("rft.run.forecast.memory.read_shape", shape)

    def make(
        *words: str,
        gpu_gb: float = 80,
        gpus: tuple[float, float] = (0.5, 0.5),
        folder: Path = Path("new"),
        **options: Any,
    ) -> RunForecast:
        shares = Shares(sampler_threads=1, learner_threads=1, sampler_gpus=gpus[0], learner_gpus=gpus[1])
        device = Device(ram_bytes=10**12, gpu_bytes=int(gpu_gb * 10**9))
        run = run_of(*words).model_copy(update={"output_dir": str(folder)})
        return forecast_with_sleep(run, PREPARED, device, shares, **options)

    return make


ALL_WEIGHTS = "learner.adapter=full"


@pytest.mark.parametrize(
    ("words", "options", "row"),
    [
        ([], {}, "never: the learner fits beside them"),
        ([ALL_WEIGHTS], {"gpu_gb": 40}, "never: the run would not fit either"),
        ([ALL_WEIGHTS], {"gpus": (1, 1)}, "never: samplers and learner share no GPU"),
        (
            [ALL_WEIGHTS, "loop.staleness=1"],
            {},
            "never: with loop.staleness=1 they work while the learner does",
        ),
        ([ALL_WEIGHTS], {"has_own_samplers": False}, "never: other runs use them as well"),
        (["sampler.sleep=false", ALL_WEIGHTS], {}, None),
        ([], {"gpus": (0, 0)}, None),
        (["sampler=transformers"], {}, None),
    ],
)
def test_samplers_that_stay_awake(
    on_gpu: Callable[..., RunForecast], words: list[str], options: dict[str, Any], row: str | None
) -> None:
    made = on_gpu(*words, **options)
    assert not made.sizes.samplers_sleep
    assert made.rows().get("samplers sleep") == row


def test_samplers_sleep_if_the_learner_fits_only_then(on_gpu: Callable[..., RunForecast]) -> None:
    made = on_gpu(ALL_WEIGHTS)
    assert made.sizes.samplers_sleep
    assert made.warning() is None
    # Of 80 GB, the sleeping engine keeps 15%. Weights in float32 and 16 bits, gradient and moments take 18 bytes each.
    [learner] = [process for process in made.processes if process.name == "learner"]
    assert made.limit_bytes(learner) == 68 * 10**9
    assert learner.parts["weights"] + learner.parts["optimizer"] == 18 * 3_085_938_688 > 40 * 10**9
    row = made.rows()["samplers sleep"]
    assert row.startswith("during each step of the learner: beside them, the learner would need ")
    assert row.endswith(" and have 40.0 GB")


def test_a_configured_sleep_and_that_of_an_earlier_start(on_gpu: Callable[..., RunForecast], tmp_path: Path) -> None:
    made = on_gpu("sampler.sleep=true")
    assert made.sizes.samplers_sleep
    assert "samplers sleep" not in made.rows()
    (tmp_path / "manifest.json").write_text(json.dumps(made.facts()))
    resumed = on_gpu(folder=tmp_path)
    assert resumed.sizes == made.sizes
    assert resumed.rows()["samplers sleep"] == "during each step of the learner: as at the first start of this run"
    assert not on_gpu("sampler.sleep=false", folder=tmp_path).sizes.samplers_sleep


def test_all_weights_without_room_are_refused(forecast: Callable[..., Forecast]) -> None:
    run = run_of("learner.adapter=full")
    refuse_memory(run, forecast("learner.adapter=full"))
    with pytest.raises(UsageError) as caught:
        refuse_memory(run, forecast("learner.adapter=full", ram_gb=1))
    problem, remedy = caught.value.problems
    assert problem.startswith("learner.adapter=full: the processes need 1.3 GB of main memory (learner ")
    assert problem.endswith("but 1.0 GB are free")
    assert "an adapter: learner.adapter=lora (" in remedy


def test_a_resumed_run_without_room_is_not_refused(forecast: Callable[..., Forecast]) -> None:
    resumed = run_of("learner.adapter=full").model_copy(update={"resume": "/nowhere"})
    made = forecast("learner.adapter=full", ram_gb=1)
    refuse_memory(resumed, made)
    assert made.warning() is not None


def test_a_check_of_a_resumed_run_shows_its_sizes(tmp_path: Path) -> None:
    run = run_of().model_copy(update={"output_dir": str(tmp_path)})
    sizes = {"completions_per_micro_batch": 2, "gradient_checkpointing": True}
    (tmp_path / "manifest.json").write_text(json.dumps({"sizes": sizes}))
    made = forecast_here(run, PREPARED)
    assert made is not None
    assert made.sizes == Sizes(completions_per_micro_batch=2, gradient_checkpointing=True)


def test_an_adapter_without_room_is_not_refused(forecast: Callable[..., Forecast]) -> None:
    made = forecast(ram_gb=1)
    refuse_memory(run_of(), made)
    refuse_memory(run_of(), None)
    assert made.warning() is not None
