"""Sinks of the user's own: found like graders, and checked before anything starts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rft.errors import ConfigError
from rft.run.reporting.sinks import load_sink, optional_sinks

SINKS = """
class Good:
    def event(self, event): ...
    def close(self): ...

class Deaf:
    def close(self): ...

class Needy(Good):
    def __init__(self, url): ...

class Broken(Good):
    def __init__(self):
        raise OSError("no network")

function = print
"""


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mine.py` in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(SINKS)


def run(*report_to: str) -> Any:
    return SimpleNamespace(logging=SimpleNamespace(report_to=list(report_to)))


def test_a_class_of_the_users() -> None:
    sinks = optional_sinks(run("tensorboard"), {"mine.py:Good": load_sink("mine.py:Good")})
    assert list(sinks) == ["tensorboard", "mine.py:Good"]
    assert type(sinks["mine.py:Good"]).__name__ == "Good"


@pytest.mark.parametrize(
    ("use", "problem"),
    [
        ("mine", "write path/to/file.py:Class"),
        ("other.py:Good", "the file other.py does not exist"),
        ("mine.py:Godo", "the file has no class Godo (did you mean 'Good'?); it has: Good, Deaf, Needy, Broken"),
        ("mine.py:function", "the file has no class function; it has: Good, Deaf, Needy, Broken"),
        ("mine.py:Deaf", "a sink has the methods event(event) and close(); Deaf lacks event"),
        ("mine.py:Needy", "a sink is created without arguments: Needy(): missing a required argument: 'url'"),
    ],
)
def test_what_is_no_sink(use: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_sink(use)
    (found,) = caught.value.problems
    assert found.startswith(f"logging.sinks={use}: {problem}")


def test_a_sink_that_cannot_be_created_ends_the_run_before_it_starts() -> None:
    with pytest.raises(ConfigError) as caught:
        optional_sinks(run(), {"mine.py:Broken": load_sink("mine.py:Broken")})
    assert caught.value.problems[0].startswith("logging.sinks=mine.py:Broken: OSError: no network (mine.py:")
