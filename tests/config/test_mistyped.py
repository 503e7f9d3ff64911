"""Arguments that are no overrides, and keys of another command."""

from __future__ import annotations

import pytest

from rft.config.commands import load_audit, load_training
from rft.errors import ConfigError


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("fooo", "there is no = in it; "),
        ("loop.steps=[1", "a bracket has no counterpart; "),
        ("output_dir='a", "a quote has no counterpart; "),
        ("output_dir=a=b", ""),
        ("output_dir=a b(c)", ""),
    ],
)
def test_words_that_are_no_override(word: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_training(["experiment=quickstart", word])
    how = "write key=value; a value with = , ~ or brackets in quotes, as \"key='a, b'\""
    assert caught.value.problems == (f"{word}: {reason}{how}",)


def test_a_task_file_under_the_key_of_another_command() -> None:
    with pytest.raises(ConfigError) as caught:
        load_audit(["data.train=tasks.jsonl", "graders.a.use=exact"])
    [problem] = caught.value.problems
    assert problem == "data.train is unknown; did you mean data.tasks? Allowed in data: tasks, columns, max_tasks"


def test_a_list_where_a_section_belongs() -> None:
    with pytest.raises(ConfigError) as caught:
        load_training(["experiment=quickstart", "data.columns=[a]", "sampler=server", "sampler.url=localhost"])
    assert caught.value.problems == (
        "data.columns=['a']: should be a mapping of names to values",
        "sampler.url=localhost: should begin with http:// or https://",
    )
