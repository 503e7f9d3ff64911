"""Settings of task families that cannot take effect are refused together."""

from __future__ import annotations

import pytest

from rft.config import EvaluateConfig, RunConfig
from rft.config.commands import load_evaluation, load_training
from rft.config.mixture import sources, trained_families
from rft.errors import ConfigError

RUN = ("model.path=embedded:tiny", "graders.correct.use=exact", "graders.close.use=numeric", "logging=none")
SUMS = "data.mixture.sums.source=embedded:chain_sum/train"
GCD = "data.mixture.gcd.source=embedded:gcd/train"
BOUND = ("data.mixture.sums.graders=[correct]", "data.mixture.gcd.graders=[correct,close]")


def load(*words: str) -> RunConfig:
    return load_training([*RUN, *words], "/nowhere")


def problems(*words: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load(*words)
    return list(refused.value.problems)


def test_a_family_has_its_own_files_and_graders() -> None:
    run = load(SUMS, GCD, *BOUND, "data.mixture.gcd.test=embedded:gcd/test", "data.temperature=2")
    assert sources(run.data, "train") == {
        "data.mixture.sums.source": "embedded:chain_sum/train",
        "data.mixture.gcd.source": "embedded:gcd/train",
    }
    assert sources(run.data, "test") == {"data.mixture.gcd.test": "embedded:gcd/test"}
    assert list(trained_families(run.data)) == ["sums", "gcd"]


def test_older_families_train_only_with_replay() -> None:
    older = (SUMS, GCD, *BOUND, "data.mixture.gcd.older=true")
    assert list(trained_families(load(*older).data)) == ["sums"]
    assert list(trained_families(load(*older, "data.replay=0.1").data)) == ["sums", "gcd"]


def test_families_without_graders_are_refused_together() -> None:
    assert problems(SUMS, GCD, "data.mixture.bits.graders=[correkt]") == [
        "data.mixture.sums.graders is missing: the graders that score this family; write "
        "data.mixture.sums.graders=[correct,close]",
        "data.mixture.gcd.graders is missing: the graders that score this family; write "
        "data.mixture.gcd.graders=[correct,close]",
        "data.mixture.bits: names no tasks; give source, validation or test",
        "data.mixture.bits.graders: correkt is not among the graders of this run (correct, close); add it as "
        "graders.correkt.use=<grader>, or correct the name",
        "graders.correct: no family of data.mixture uses it; add it to data.mixture.<name>.graders, or remove it",
        "graders.close: no family of data.mixture uses it; add it to data.mixture.<name>.graders, or remove it",
    ]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (
            ("data.test=embedded:gcd/test",),
            "data.test=embedded:gcd/test: data.mixture names the tasks of each family; set data.test=null, or leave "
            "data.mixture out",
        ),
        (
            ("data.mixture.sums.weight=1",),
            "data.mixture: there is a weight for sums, and none for gcd, so their shares cannot be compared; give each "
            "a weight, or none",
        ),
        (
            ("data.mixture.sums.weight=1", "data.mixture.gcd.weight=2", "data.mixture.gcd.cap=9"),
            "data.mixture.gcd.cap=9: has no effect beside weight; keep one of the two",
        ),
        (
            ("data.replay=0.1",),
            "data.replay=0.1: no family with a source is older; set older=true on one",
        ),
        (
            ("data.mixture.sums.older=true", "data.mixture.gcd.older=true"),
            "data.mixture: no family has new training tasks; give one a source, without older=true",
        ),
        (
            ("evaluation.metric=close", "data.mixture.sums.test=embedded:chain_sum/test"),
            "evaluation.metric=close: data.mixture.sums is not scored by it; use reward, or add it to "
            "data.mixture.sums.graders",
        ),
        (
            ("graders.correct.weight=0",),
            "data.mixture.sums.graders: every weight is 0, so every reward would be 0; add a grader with a weight",
        ),
        (
            ("data.mixture.sums.validation=embedded:chain_sum/validation", "data.validation_share=0.1"),
            "data.validation_share=0.1: data.mixture.sums.validation is given as well; keep one",
        ),
        (
            ("data.curriculum={floor: 0.6}",),
            "data.curriculum.floor=0.6: 2 families with this share exceed a step; use at most 0.5",
        ),
        (
            ("data.curriculum={}", "data.mixture.gcd.older=true"),
            "data.curriculum: needs two families with new training tasks; add one to data.mixture, or leave it out",
        ),
        (
            ("data.curriculum={}", "learner=sft"),
            "data.curriculum: learner=sft samples nothing during training, so nothing is measured; leave it out",
        ),
        (
            ("data.mixture.gcd.sauce=x",),
            "data.mixture.gcd.sauce is unknown; did you mean data.mixture.gcd.source? Allowed in data.mixture.gcd: "
            "source, validation, test, graders, weight, cap, older, columns",
        ),
    ],
)
def test_settings_that_cannot_take_effect(words: tuple[str, ...], problem: str) -> None:
    assert problems(SUMS, GCD, *BOUND, *words) == [problem]


def test_settings_of_a_mixture_need_one() -> None:
    quick = ["experiment=quickstart", "data.temperature=2", "data.replay=0.1"]
    with pytest.raises(ConfigError) as refused:
        load_training(quick, "/nowhere")
    assert list(refused.value.problems) == [
        "data.temperature: has no effect without data.mixture; leave it out",
        "data.replay: has no effect without data.mixture; leave it out",
    ]


def test_an_evaluation_measures_families() -> None:
    words = [*RUN[:3], "data.mixture.gcd.test=embedded:gcd/test", BOUND[1]]
    config: EvaluateConfig = load_evaluation(words, "/nowhere")
    assert list(config.data.mixture) == ["gcd"]
    with pytest.raises(ConfigError, match=r"data\.test is missing"):
        load_evaluation([*RUN[:3], GCD, BOUND[1]], "/nowhere")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (
            ("evaluation.guard={bits: 0.1}",),
            "evaluation.guard.bits: data.mixture has no family of this name; it has sums and gcd",
        ),
        (
            ("evaluation.guard={gcd: 0.1}",),
            "evaluation.guard.gcd: the family is never measured; give data.mixture.gcd.validation or "
            "data.mixture.gcd.test",
        ),
        (
            ("evaluation.guard={gcd: 0.1}", "evaluation.guard_action=stop", "data.mixture.gcd.test=embedded:gcd/test"),
            "evaluation.guard.gcd: evaluation.guard_action=stop needs measurements during the run; give validation "
            "tasks in data.mixture.gcd.validation, and evaluation.every_steps",
        ),
        (
            ("evaluation.guard_action=stop",),
            "evaluation.guard_action=stop: has no effect without evaluation.guard; leave it out, or set a limit",
        ),
    ],
)
def test_a_guard_needs_measurements(words: tuple[str, ...], problem: str) -> None:
    assert problems(SUMS, GCD, *BOUND, *words) == [problem]
    guarded = load(SUMS, GCD, *BOUND, "data.validation_share=0.1", "evaluation.guard={gcd: 0.1}")
    assert guarded.evaluation.guard == {"gcd": 0.1}
