"""Settings of an audit of an environment that cannot work are refused."""

from __future__ import annotations

import pytest

from rft.config.commands import load_audit
from rft.errors import ConfigError

USE = "environment.use=my_env.py:guess"
AUDIT = ("data=numbers.jsonl",)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((USE, "graders.short.use=length"), "graders.short: an audit examines an environment or graders"),
        ((USE, "completions=runs/base"), "completions: has no effect in an audit of an environment"),
        (("environment.command=python agent.py",), "environment.command: an audit plays environment.use or tools"),
        ((USE, "tools.add.use=my_tools.py:add"), "tools are an environment of their own"),
        (("environment.style=skyrl", "graders.short.use=length"), "environment.style: has no effect without"),
        ((), "graders is empty"),
    ],
)
def test_what_an_audit_refuses(words: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_audit([*AUDIT, *words])
    assert any(problem in each for each in caught.value.problems), caught.value.problems


def test_an_audit_of_an_environment_takes_the_tasks_of_rft_play() -> None:
    config = load_audit(["data.test=numbers.jsonl", USE])
    assert (config.data.tasks, list(config.graders)) == ("numbers.jsonl", ["environment"])
