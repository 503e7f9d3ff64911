"""`learner.adapter`: each method has its own keys, and is refused where it cannot be trained or served."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rft.config import RunConfig
from rft.config.adapters import METHODS
from rft.config.commands import load_training
from rft.config.resume import load_resumed
from rft.errors import ConfigError
from rft.models.weight_files import Tensor, read_weights

QUICK = ("experiment=quickstart", "logging=none")
MODEL = {
    "model.embed_tokens.weight": Tensor("F32", (100, 8)),
    "model.layers.0.self_attn.k_proj.weight": Tensor("F32", (4, 8)),
    "model.layers.0.self_attn.v_proj.weight": Tensor("F32", (4, 8)),
    "model.layers.0.mlp.down_proj.weight": Tensor("F32", (8, 20)),
    "model.layers.1.self_attn.k_proj.weight": Tensor("F32", (4, 8)),
    "model.layers.1.self_attn.v_proj.weight": Tensor("F32", (4, 8)),
    "model.layers.1.mlp.down_proj.weight": Tensor("F32", (8, 20)),
    "model.norm.weight": Tensor("F32", (8,)),
}


@pytest.fixture
def load() -> Callable[..., RunConfig]:
    return lambda *words: load_training([*QUICK, *words], "/nowhere")


@pytest.fixture
def problems(load: Callable[..., RunConfig]) -> Callable[..., list[str]]:
    def refused(*words: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(*words)
        return list(caught.value.problems)

    return refused


def adapter(method: str, **keys: Any) -> Any:
    return METHODS[method].model_validate(keys)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_has_a_short_form(load: Callable[..., Any], method: str) -> None:
    more = ["learner.adapter.layers=[0]"] if method == "partial" else []
    run = load(f"learner.adapter={method}", *more)
    assert type(run.learner.adapter) is METHODS[method]
    assert load(f"learner.adapter.method={method}", *more).learner.adapter == run.learner.adapter
    assert RunConfig.model_validate(run.model_dump()) == run


def test_keys_of_a_method_go_with_its_name(load: Callable[..., Any]) -> None:
    assert load("learner.adapter=rslora", "learner.adapter.rank=64").learner.adapter.rank == 64
    assert load("learner.adapter={method: vera, rank: 8}").learner.adapter == adapter("vera", rank=8)
    assert load("learner.adapter=vera").learner.adapter.rank == 256


def test_keys_of_another_method_are_refused(problems: Callable[..., list[str]]) -> None:
    assert problems("learner.adapter=vera", "learner.adapter.alpha=3") == [
        "learner.adapter.alpha is unknown for learner.adapter=vera; it belongs to learner.adapter=lora, "
        "learner.adapter=rslora and learner.adapter=dora; remove it with ~learner.adapter.alpha. Allowed in "
        "learner.adapter: layers, modules, rank, dropout, initial_scale"
    ]
    (unknown,) = problems("learner.adapter=lokr")
    assert unknown.startswith("learner.adapter=lokr: should be one of 'lora', 'rslora', 'dora', 'vera', 'ia3'")
    (qlora,) = problems("learner.adapter=qlora")
    assert qlora.endswith("'full'; QLoRA is learner.base=nf4 with learner.adapter=lora")
    (nothing,) = problems("learner.adapter=partial", "learner.adapter.layers=[]")
    assert nothing.startswith("learner.adapter.layers=[]: should have at least 1")
    (everything,) = problems("learner.adapter=partial")
    assert "select the weights to train in learner.adapter.layers or learner.adapter.modules" in everything


@pytest.mark.parametrize(
    ("words", "expected", "instead"),
    [
        (("learner.lora.rank=4",), {"rank": 4}, "learner.adapter.rank=4"),
        (("learner.lora={rank: 4, alpha: 8}",), {"rank": 4, "alpha": 8}, "learner.adapter.rank=4 learner.adapter.al"),
        (("learner.adapter=dora", "learner.lora.rank=4"), {"method": "dora", "rank": 4}, "learner.adapter.rank=4"),
        (("learner.lora=null",), {"method": "full"}, "learner.adapter=full"),
    ],
)
def test_the_earlier_keys_work_with_a_warning(
    load: Callable[..., Any], words: tuple[str, ...], expected: dict[str, Any], instead: str
) -> None:
    with pytest.warns(FutureWarning, match=f"learner.lora is the earlier name .* write {instead}"):
        run = load(*words)
    keys = dict(expected)
    assert run.learner.adapter == adapter(keys.pop("method", "lora"), **keys)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RunConfig.model_validate(run.model_dump())


def test_the_earlier_keys_of_a_recorded_configuration_cause_no_warning(
    load: Callable[..., Any], tmp_path: Path
) -> None:
    values = load().model_dump()
    del values["learner"]["adapter"]
    values["learner"]["lora"] = {"rank": 4, "alpha": 8}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_resumed(str(tmp_path), []).learner.adapter == adapter("lora", rank=4, alpha=8)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (
            ("learner.adapter=dora", "sampler.serve=adapter"),
            "sampler.serve=adapter: vLLM does not serve DoRA (learner.adapter=dora) as an adapter; remove "
            "sampler.serve, or use sampler.serve=merged",
        ),
        (
            ("learner.adapter=vera", "sampler.serve=merged"),
            "sampler.serve=merged: learner.adapter=vera publishes whole models, no adapters; remove sampler.serve",
        ),
        (
            ("learner.adapter=dora", "sampler=server", "sampler.url=http://x/v1"),
            "learner.adapter=dora: samplers must merge DoRA, and sampler=server loads adapters beside the base model; "
            "use sampler=vllm, or learner.adapter=lora",
        ),
    ],
)
def test_a_method_that_the_sampler_cannot_serve_is_refused(
    problems: Callable[..., list[str]], words: tuple[str, ...], problem: str
) -> None:
    assert problem in problems(*words)


@pytest.mark.parametrize(
    ("method", "keys", "number"),
    [
        ("lora", {"rank": 2}, 2 * 2 * (12 + 12 + 28)),
        ("lora", {"rank": 2, "layers": [1]}, 2 * (12 + 12 + 28)),
        ("lora", {"rank": 2, "modules": ["self_attn"]}, 2 * 2 * (12 + 12)),
        ("lora", {"rank": 2, "modules": ["k_proj", "mlp"], "layers": [0]}, 2 * (12 + 28)),
        ("dora", {"rank": 2}, 2 * 2 * (12 + 12 + 28) + 2 * (4 + 4 + 8)),
        ("vera", {"rank": 5}, 2 * (3 * 5 + 4 + 4 + 8)),
        ("ia3", {}, 2 * (4 + 4 + 20)),
        ("partial", {"layers": [1]}, 32 + 32 + 160),
        ("partial", {"modules": ["norm", "embed_tokens"]}, 800 + 8),
        ("full", {}, 800 + 2 * (32 + 32 + 160) + 8),
    ],
)
def test_the_number_of_trained_weights(method: str, keys: dict[str, Any], number: int) -> None:
    assert adapter(method, **keys).num_trained(MODEL) == number
    assert adapter(method, **keys).model_problems(MODEL) == []


@pytest.mark.parametrize(
    ("method", "keys", "problem"),
    [
        (
            "lora",
            {"layers": [0, 7]},
            "learner.adapter.layers=[0,7]: the model has no layer 7; its layers have the numbers 0 to 1",
        ),
        (
            "dora",
            {"modules": ["q_proj"]},
            "learner.adapter.modules=[q_proj]: the model has no q_proj that learner.adapter=dora could train; it has "
            "down_proj, k_proj, v_proj",
        ),
        (
            "lora",
            {"modules": ["norm"]},
            "learner.adapter.modules=[norm]: the model has no norm that learner.adapter=lora could train; it has "
            "down_proj, k_proj, v_proj",
        ),
        (
            "ia3",
            {"modules": ["c_attn"]},
            "learner.adapter.modules=[c_attn]: the model has no c_attn; it has down_proj, k_proj, v_proj",
        ),
    ],
)
def test_layers_and_modules_that_the_model_lacks(method: str, keys: dict[str, Any], problem: str) -> None:
    assert adapter(method, **keys).model_problems(MODEL) == [problem]


def test_words_and_forecast() -> None:
    assert adapter("lora", rank=8, layers=[0, 2], modules=["mlp"]).description == "LoRA rank 8 in mlp of layers 0, 2"
    assert adapter("partial", layers=[1]).description == "weights in layers 1"
    assert [adapter(method).forecast_rank for method in ("lora", "ia3", "full")] == [16, 1, None]
    assert adapter("partial", layers=[0, 1]).trained_share(num_layers=8) == 0.25


def test_the_embedded_model_suits_every_method(tiny_model: Path) -> None:
    tensors = read_weights(tiny_model).tensors
    for method in METHODS:
        assert adapter(method).model_problems(tensors) == []
