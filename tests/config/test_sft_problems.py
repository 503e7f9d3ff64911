"""Settings that do not fit a run on demonstrations are refused together."""

from __future__ import annotations

import pytest

from rft.config import RunConfig, sequences_per_step
from rft.config.commands import load_training
from rft.errors import ConfigError

QUICK = ("experiment=quickstart", "learner=sft", "logging=none")


def load(*words: str) -> RunConfig:
    return load_training([*QUICK, *words], "/nowhere")


def problems(*words: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load(*words)
    return list(refused.value.problems)


def test_a_step_has_as_many_demonstrations_as_prompts() -> None:
    assert sequences_per_step(load("loop.prompts_per_step=12", "loop.completions_per_prompt=4")) == 12


def test_settings_of_sampling_are_refused() -> None:
    assert problems("loop.staleness=1", "loop.refill_rounds=2")[-2:] == [
        f"{key}={value}: learner=sft learns from demonstrations, and samples nothing for training; leave {key} out"
        for key, value in (("loop.staleness", 1), ("loop.refill_rounds", 2))
    ]


def test_sizes_and_ranks() -> None:
    assert problems("loop.prompts_per_step=6", "learner.completions_per_micro_batch=4", "learner.num_workers=8") == [
        "learner.completions_per_micro_batch=4: must divide the 6 demonstrations of a step (loop.prompts_per_step): "
        "one of 1, 2, 3, 6",
        "learner.num_workers=8: a step has 6 demonstrations, so 2 of the ranks would be idle; use at most 6, or raise "
        "loop.prompts_per_step",
    ]
    assert load("learner.num_workers=2").learner.num_workers == 2


def test_packing_needs_several_rows_in_a_micro_batch() -> None:
    (problem,) = problems("learner.packing=true", "learner.completions_per_micro_batch=1")
    assert problem.startswith("learner.packing=true: joins the rows of a micro-batch, and")
    assert load("learner.packing=true").learner.model_dump()["packing"]


def test_samplers_may_sleep_between_measurements() -> None:
    assert load("sampler.sleep=true").sampler.sleeps


def test_a_loss_that_selects_the_best_step_must_be_measured() -> None:
    assert load("evaluation.best_metric=loss", "evaluation.patience=2").evaluation.best_metric == "loss"
    assert problems("evaluation.best_metric=loss") == [
        "evaluation.best_metric=loss: no measurement is selected; set evaluation.patience, or leave it out"
    ]
    with pytest.raises(ConfigError, match="learner=grpo does not learn from demonstrations, so there is no loss"):
        load_training(["experiment=quickstart", "evaluation.best_metric=loss", "evaluation.patience=2"], "/nowhere")


def test_patience_needs_measurements_during_the_run() -> None:
    none = "give validation tasks in data.validation or data.validation_share, and evaluation.every_steps"
    for words in (("data.validation=null",), ("evaluation.every_steps=null",)):
        (problem,) = problems("evaluation.patience=3", *words)
        assert problem == f"evaluation.patience=3: nothing is measured during the run; {none}"
    assert load("evaluation.patience=3").evaluation.patience == 3


def test_graders_are_optional_if_nothing_is_graded() -> None:
    unmeasured = ("~graders.correct", "data.test=null", "data.validation=null")
    assert load(*unmeasured).graders == {}
    for word in ("data.validation_share=0.1", "data.check_demonstrations=true"):
        (problem,) = problems(*unmeasured, word)
        assert problem.startswith("graders is empty")


def test_only_demonstrations_can_be_checked() -> None:
    with pytest.raises(ConfigError, match="learner=grpo does not learn from demonstrations"):
        load_training(["experiment=quickstart", "data.check_demonstrations=true"], "/nowhere")
    assert load("data.check_demonstrations=true").data.check_demonstrations
