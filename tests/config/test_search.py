"""The words of `rft sweep`, taken apart."""

from __future__ import annotations

import pytest

from rft.config.grid import check_trials
from rft.config.presets import conf_dir
from rft.config.search import Between, OneOf, Range, read_search
from rft.errors import ConfigError

QUICK = "experiment=quickstart"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4,8", OneOf(values=("4", "8"))),
        ("choice(a,b)", OneOf(values=("a", "b"))),
        ("interval(0,1)", Between(low=0.0, high=1.0)),
        ("tag(log,interval(1e-5,1e-3))", Between(low=1e-5, high=1e-3, is_logarithmic=True)),
        ("int(interval(2,9))", Between(low=2, high=9, step=1)),
        ("range(1,10,4)", Between(low=1, high=9, step=4)),
        ("range(1,9,4)", Between(low=1, high=5, step=4)),
    ],
)
def test_where_to_look(text: str, expected: Range) -> None:
    assert read_search([QUICK, f"learner.x={text}"]).space == {"learner.x": expected}
    # The same in a preset or under sweep.space.
    assert read_search([QUICK, f"sweep.space.learner.x='{text}'"]).space == {"learner.x": expected} or "," in text


def test_whose_word_it_is() -> None:
    search = read_search(["sweep=lr_optuna", QUICK, "sweep.trials=3", "seed=5", "output_dir=x", "sampler=fake,vllm"])
    assert search.words == (QUICK, "seed=5")
    assert list(search.space) == ["learner.learning_rate", "sampler"]
    assert (search.config.sweep.trials, search.config.output_dir) == (3, "x")


def test_a_key_given_once_on_the_command_line_is_not_the_presets_any_more() -> None:
    space = read_search(["sweep=lr_optuna", QUICK, "learner.learning_rate=1e-4,1e-3"]).space
    assert space == {"learner.learning_rate": OneOf(values=("0.0001", "0.001"))}


def test_a_key_with_one_value_is_not_searched() -> None:
    search = read_search(["sweep=lora_optuna", QUICK, "learner.adapter.rank=8"])
    assert list(search.space) == ["learner.learning_rate", "learner.adapter.alpha"]
    assert search.words == (QUICK, "learner.adapter.rank=8")


def test_corners_show_each_value_that_may_be_wrong() -> None:
    search = read_search([QUICK, "loop.steps=range(2,6)", "sampler=fake,vllm,transformers"])
    assert search.corners() == [
        [QUICK, "loop.steps=2", "sampler=fake"],
        [QUICK, "loop.steps=5", "sampler=fake"],
        [QUICK, "loop.steps=2", "sampler=vllm"],
        [QUICK, "loop.steps=2", "sampler=transformers"],
    ]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "sweep.space is empty: select a preset"),
        (["sweep.trails=3"], "sweep.trails is unknown; did you mean sweep.trials?"),
        (["sweep=lr"], "sweep=lr: unknown preset"),
        (["sweep.space.seed=3"], "sweep.space.seed=3: this is a single value; allowed are interval(low, high)"),
        (["a=interval(2,1)"], "sweep.space.a=interval(2,1): 2.0 is not less than 1.0"),
        (["a=tag(log,interval(0,1))"], "sweep.space.a=tag(log,interval(0,1)): a logarithmic scale cannot start at 0"),
        (["sweep.trials=0", "seed=0,1"], "sweep.trials=0: "),
    ],
)
def test_refusals(words: list[str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_search(words)
    assert caught.value.problems[0].startswith(problem)


@pytest.mark.parametrize("preset", sorted(file.stem for file in (conf_dir() / "sweep").glob("*.yaml")))
def test_a_preset(preset: str) -> None:
    search = read_search([f"sweep={preset}", QUICK])
    assert search.config.sweep.trials > search.config.sweep.startup_trials
    assert len(check_trials(search.corners(), conf_dir())) >= 2
