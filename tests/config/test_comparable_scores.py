"""Trials are compared by a score that means the same in all of them, or not at all."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from rft.config.grid import check_trials
from rft.config.search import read_search
from rft.errors import ConfigError

QUICK = "experiment=quickstart"
TWO = ("graders.correct.weight=0", "graders.extra.use=exact")


def problems(*words: str) -> tuple[str, ...]:
    """The problems of a grid, whose trials are expanded without Hydra: composing what it needs besides takes longer."""
    choices = [
        [f"{one.key_or_group}={value}" for value in one.sweep_string_iterator()]
        if one.is_sweep_override()
        else [one.input_line]
        for one in OverridesParser.create().parse_overrides(list(words))
    ]
    try:
        check_trials([[QUICK, *trial] for trial in product(*choices)], Path("sweep"))
    except ConfigError as error:
        return error.problems
    return ()


def test_different_graders_are_refused_with_the_keys_and_a_grader_that_is_alike() -> None:
    assert problems(*TWO, "graders.extra.use=exact,numeric") == (
        "graders.extra.use: differs between trials, so evaluation.metric=reward has a different meaning in each, and "
        "their held-out scores cannot be compared; set evaluation.metric to a grader that all trials share: "
        "correct",
    )


def test_where_no_grader_is_alike_one_more_is_proposed() -> None:
    (problem,) = problems("graders.correct.use=exact,numeric")
    assert problem.startswith("graders.correct.use: differs between trials")
    assert problem.endswith("graders.held_out.use=<grader> graders.held_out.weight=0 evaluation.metric=held_out")


@pytest.mark.parametrize(
    "words",
    [
        ("graders.extra.weight=1,2",),
        ("graders.extra={use: exact},{use: exact, weight: 2}",),
        ("graders.extra={use: exact},{use: exact, ignore_case: true}",),
        ("graders.extra.use=exact,numeric", "evaluation.metric=extra"),
        ("evaluation.metric=reward,correct",),
    ],
)
def test_scores_that_mean_different_things_are_refused(words: tuple[str, ...]) -> None:
    (problem,) = problems(*TWO, *words)
    assert "cannot be compared" in problem


@pytest.mark.parametrize(
    "words",
    [
        ("seed=0,1",),
        ("graders.extra.use=exact,numeric", "evaluation.metric=correct"),
        ("graders.extra.weight=1,2", "evaluation.metric=extra"),
        ("graders.correct.weight=0,1", "evaluation.metric=correct"),
        ("graders.extra={use: exact},{use: exact, weight: 1.0}",),
        ("sampler.temperature=0.5,1.0",),
    ],
)
def test_scores_that_mean_the_same_are_compared(words: tuple[str, ...]) -> None:
    assert problems(*TWO, *words) == ()


def test_scores_of_different_tasks_are_refused() -> None:
    gcd, sums = "embedded:gcd/test", "embedded:chain_sum/test"
    assert problems(f"data.test={gcd},{sums}") == (
        f"data.test: the trials measure different held-out tasks ({gcd}; {sums}), so their scores cannot be compared; "
        "give all trials the same data.test",
    )
    train = ("data.train=embedded:gcd/train,embedded:chain_sum/train", "data.validation=null")
    assert problems(*train) == ()
    assert problems(*train, "data.test=null") == (), "nothing is measured"
    (problem,) = problems(*train, "data.test=null", "data.validation_share=0.1")
    assert problem.startswith(
        "data.train: the trials measure different held-out tasks (embedded:gcd/train; embedded:ch"
    )


def test_a_search_is_refused_likewise(tmp_path: Path) -> None:
    search = read_search([QUICK, *TWO, "graders.extra.use=choice(exact,numeric)"])
    with pytest.raises(ConfigError, match=r"graders\.extra\.use: differs.*share: correct"):
        check_trials(search.corners(), tmp_path)


def test_scores_of_different_environments_are_refused() -> None:
    (problem,) = problems("environment.use=my_env.py:guess", "environment.max_turns=3,5")
    assert problem.startswith("environment.max_turns: differs between trials, so each measures other episodes")
    assert problems("environment.use=my_env.py:guess", "environment.timeout_s=30,60") == ()


def test_scores_with_different_tools_are_refused() -> None:
    (problem,) = problems("tools.add.use=my_tools.py:add,other.py:add")
    assert problem.startswith("tools.add.use: differs between trials, so each measures other episodes")
    assert problems("tools.add.use=my_tools.py:add", "tools.add.timeout_s=1,2") == ()
