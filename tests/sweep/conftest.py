"""Sweeps of fake trials."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import rft
from rft.types import Policy

GRADER = """
def one(completion, task, fails=False):
    if fails:
        raise ValueError("as the trial wants it")
    return float(completion == "1")
"""


@dataclass(frozen=True)
class StandIn:
    """Stands for the inputs of a trial, where nothing but its base model counts."""

    model: Path
    base: Policy
    context_tokens: int
    rank_below: int = 0


INPUTS = StandIn(
    model=Path(rft.__file__).parent / "embedded" / "model",
    base=Policy(version=0, fingerprint="base"),
    context_tokens=64,
)
FAKE = (
    "experiment=quickstart",
    "sampler=fake",
    "learner=fake",
    "loop.steps=2",
    "data.test=null",
    "data.train=tasks.jsonl",
    "data.validation=held_out.jsonl",
    "~graders.correct",
    "graders.one.use=grader.py:one",
    "logging=none",
    "evaluation.every_steps=1",
)


@pytest.fixture(scope="session")
def fake() -> tuple[str, ...]:
    """The words of a fake trial, to be started in `folder`."""
    return FAKE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the test runs in, with tasks and a grader."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grader.py").write_text(GRADER)
    for name, start, number in (("tasks", 0, 16), ("held_out", 100, 8)):
        lines = [json.dumps({"prompt": f"{start + index} + 1 ="}) + "\n" for index in range(number)]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    return tmp_path


@pytest.fixture(params=["fake", pytest.param("real", marks=[pytest.mark.e2e, pytest.mark.full])])
def any_ray(request: pytest.FixtureRequest) -> None:
    """A stand-in for Ray, or a Ray for each sweep."""
    request.getfixturevalue({"fake": "fake_ray", "real": "no_ray"}[request.param])


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The sets of engines that are started."""
    from rft.run import build

    started: list[Any] = []
    real: Callable[..., Any] = build.engines

    def counted(*inputs: Any, **how: Any) -> Any:
        started.append(real(*inputs, **how))
        return started[-1]

    monkeypatch.setattr(build, "engines", counted)
    return started


@pytest.fixture
def grid(folder: Path, fake: tuple[str, ...]) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """`grid("seed=0,1")`: the exit code, sweep.json and what was printed."""
    from rft.sweep.grid import run_grid

    def run(*words: str) -> tuple[int, dict[str, Any], str]:
        printed = io.StringIO()
        code = run_grid(["-m", *fake, *words, "hydra.sweep.dir=sweep"], console=Console(file=printed, width=160))
        return code, json.loads(Path("sweep/sweep.json").read_text()), printed.getvalue()

    return run


@pytest.fixture
def search(folder: Path) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """`search("seed=range(0,9)", "output_dir=found")`: the exit code, sweep.json and what was printed."""
    from rft.sweep.search import run_search

    def run(*words: str) -> tuple[int, dict[str, Any], str]:
        printed = io.StringIO()
        code = run_search(words, console=Console(file=printed, width=160))
        return code, json.loads(Path("found/sweep.json").read_text()), printed.getvalue()

    return run
