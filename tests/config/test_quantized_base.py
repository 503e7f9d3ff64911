"""`learner.base`: settings that a quantized base model rules out are refused together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rft.cluster.versions import packages_here
from rft.config import RunConfig
from rft.config.commands import load_training
from rft.errors import ConfigError
from rft.run.forecast.plan import run_rows


@pytest.fixture
def load() -> Callable[..., RunConfig]:
    return lambda *words: load_training(["experiment=quickstart", "logging=none", *words], "/nowhere")


def test_a_quantized_base_model_is_off_by_default(load: Callable[..., Any]) -> None:
    assert load().learner.base is None
    assert "bitsandbytes" not in packages_here(load())


@pytest.mark.parametrize("learner", ["grpo", "sft", "dpo", "ppo", "distill"])
def test_every_learner_of_a_model_takes_it(load: Callable[..., Any], learner: str) -> None:
    words = ["teacher.path=embedded:tiny"] if learner == "distill" else []
    run = load(f"learner={learner}", "learner.base=nf4", *words)
    assert run.learner.base == "nf4"
    assert "bitsandbytes" in packages_here(run)
    assert "LoRA rank 16 on a base model in NF4" in str(run_rows(run, micro_batch=8)["learner"])


@pytest.mark.parametrize("method", ["dora", "vera", "ia3", "partial", "full"])
def test_other_methods_than_lora_are_refused(load: Callable[..., Any], method: str) -> None:
    layers = ["learner.adapter.layers=[0]"] if method == "partial" else []
    with pytest.raises(ConfigError) as caught:
        load("learner.base=int8", "model.dtype=float16", f"learner.adapter={method}", *layers)
    assert list(caught.value.problems) == [
        f"learner.base=int8: learner.adapter={method} needs weights that a quantized base model lacks; use "
        "learner.adapter=lora or rslora, or leave learner.base out",
        "learner.base=int8: the scales of quantized weights are numbers in bfloat16, and model.dtype=float16 would "
        "round them; use model.dtype=bfloat16 or float32",
    ]


def test_a_learner_without_a_model_has_nothing_to_quantize(load: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"learner=fake has no base model; leave learner\.base out"):
        load("learner=fake", "sampler=fake", "learner.base=nf4")


def test_other_quantizations_are_refused(load: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"learner\.base"):
        load("learner.base=fp4")
