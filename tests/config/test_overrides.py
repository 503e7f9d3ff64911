"""Overrides in Python arrive in the configuration as they were given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from rft.config.commands import load_training
from rft.config.overrides import to_words
from rft.errors import ConfigError


def test_texts_stay_and_mappings_become_dotted_keys() -> None:
    given = ["experiment=quickstart", {"loop": {"steps": 20, "refill_rounds": 1}, "data.test": None}]
    assert to_words(given) == ["experiment=quickstart", "loop.steps=20", "loop.refill_rounds=1", "data.test=null"]


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            "a b",
            "it's",
            "a,b",
            "[x]",
            "null",
            "True",
            "20",
            "end\\",
            "two\nlines",
            "x=1",
            "é",
            "~a",
            "inf",
            "plain",
        ),
        *(True, False, None, 0, -3, 1e-06, 2.5, ["a", 1, None], [], {}, [{"x": 1, "y": ["b c"]}]),
    ],
)
def test_values_survive_hydras_grammar(value: Any) -> None:
    (word,) = to_words([{"some.key": value}])
    override = OverridesParser.create().parse_override(word)
    assert (override.key_or_group, override.value()) == ("some.key", value)
    assert type(override.value()) is type(value)


def test_tuples_and_paths() -> None:
    assert to_words([{"stop": ("a", "b")}, {"data.train": Path("my tasks.jsonl")}]) == [
        "stop=[a,b]",
        "data.train='my tasks.jsonl'",
    ]


def test_a_mapping_makes_the_configuration_that_words_make() -> None:
    words = ["experiment=quickstart", "loop.steps=3", "data.system='be brief, please'", "output_dir=x"]
    given = {"experiment": "quickstart", "loop": {"steps": 3}, "data": {"system": "be brief, please"}}
    assert load_training(to_words([given, {"output_dir": Path("x")}])) == load_training(words)


def test_everything_that_cannot_be_given_is_told_at_once() -> None:
    def correct(completion: str) -> float:
        return 1.0

    with pytest.raises(ConfigError) as caught:
        to_words(["--multirun", {"graders.correct": correct, "loop": {"steps": {1, 2}}}, 3])
    assert caught.value.problems == (
        "--multirun: options belong to the command line; give key=value or a mapping",
        "graders.correct: a configuration cannot hold a function; write it into a file and give its name, as "
        "my_graders.py:correct",
        "loop.steps: a configuration cannot hold a value of type set",
        "3: an override is a string (key=value) or a mapping, not a value of type int",
    )
