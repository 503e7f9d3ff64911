"""The configuration of `rft play`."""

from __future__ import annotations

import pytest

from rft.config.commands import load_play, load_training
from rft.errors import ConfigError

PLAY = ("model.path=embedded:agent", "environment.use=my_env.py:guess")


@pytest.mark.parametrize("experiment", ["calculator", "guess_number"])
def test_an_experiment_is_played_as_it_is_trained(experiment: str) -> None:
    played, trained = load_play([f"experiment={experiment}"]), load_training([f"experiment={experiment}"])
    for section in ("model", "data", "environment", "tools", "graders", "sampler"):
        assert getattr(played, section) == getattr(trained, section), section


@pytest.mark.parametrize(
    ("words", "source"),
    [
        (("data.train=a.jsonl",), "a.jsonl"),
        (("data.train=a.jsonl", "data.validation=b.jsonl"), "b.jsonl"),
        (("data.train=a.jsonl", "data.test=c.jsonl"), "c.jsonl"),
    ],
)
def test_tasks_that_are_no_test_tasks_are_played(words: tuple[str, ...], source: str) -> None:
    assert load_play([*PLAY, *words]).data.test == source


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "data.test is missing: "),
        (
            ("data.test=embedded:guess_number/test",),
            "environment.use is missing: the environment to play, such as my_env.py:guess",
        ),
        (("experiment=calculato",), "experiment=calculato: unknown preset (did you mean calculator?)"),
        (("experiment=calculator", "learner=ppo"), "learner=ppo: rft play has no presets of learner; rft train and "),
        (("experiment=calculator", "loop.steps=3"), "loop is unknown; Allowed at the top: seed,"),
    ],
)
def test_what_cannot_be_played(words: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_play([*(PLAY[:1] if words else PLAY), *words])
    [found] = caught.value.problems
    assert found.startswith(problem)
