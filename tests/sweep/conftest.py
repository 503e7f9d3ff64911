"""Sweeps of fake trials."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

GRADER = """
def one(completion, task, fails=False):
    if fails:
        raise ValueError("as the trial wants it")
    return float(completion == "1")
"""
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
