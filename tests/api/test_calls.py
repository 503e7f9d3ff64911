"""`rft.grade` and `rft.check` from Python: results as objects, errors as exceptions, in a notebook too."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

import rft
from rft.errors import ConfigError, DataError, UsageError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with two completions of which one is right."""
    rows = [{"prompt": "1 + 1 =", "answer": "2", "completion": completion} for completion in ("2", "3")]
    (tmp_path / "done.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


GRADE = {"data": "done.jsonl", "graders": {"correct": {"use": "exact"}}, "output_dir": "out"}


def test_grade_returns_what_it_writes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grading = rft.grade(GRADE, quiet=True)
    assert capsys.readouterr() == ("", "")
    assert grading.folder == Path("out")
    assert (grading.summary["status"], grading.summary["reward"]["mean"]) == ("finished", 0.5)
    assert [(score["where"], score["reward"]) for score in grading.scores] == [
        ("done.jsonl:1", 1.0),
        ("done.jsonl:2", 0.0),
    ]
    written = [json.loads(line) for line in (folder / "out" / "scores.jsonl").read_text().splitlines()]
    assert list(grading.scores) == written
    assert repr(grading) == "<rft.Grading out: 2 completions, mean reward 0.500>"


def test_grade_inside_an_event_loop() -> None:
    async def cell() -> rft.Grading:
        return rft.grade(GRADE, quiet=True)

    assert asyncio.run(cell()).summary["num_completions"] == 2


def test_every_problem_of_the_configuration_is_raised_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        rft.check("experiment=quickstart", {"loop": {"stepz": 3}}, "seed=x")
    assert [problem.partition(";")[0] for problem in caught.value.problems] == [
        "seed=x: should be a whole number",
        "loop.stepz is unknown",
    ]


def test_errors_in_the_data_are_raised(folder: Path) -> None:
    (folder / "done.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match="not a JSON object"):
        rft.grade(GRADE)
    assert not (folder / "out").exists()


def test_a_dry_run_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dry_run=true: in Python, rft\.check plans a training run"):
        rft.grade(GRADE, "dry_run=true")


def test_check_returns_the_plan(tiny_model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": f"{number} + 1 =", "answer": str(number + 1)} for number in range(4)]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {
        "model.path": tiny_model,
        "data.train": "tasks.jsonl",
        "graders.correct.use": "exact",
        "loop": {"steps": 3, "prompts_per_step": 2, "completions_per_prompt": 4},
        "output_dir": "run",
    }
    before = sorted(folder.iterdir())
    plan = rft.check("sampler=fake", "learner=fake", given, quiet=True)
    assert plan.rows["steps"] == "3 of 2 prompts x 4 completions = 8 completions"
    assert plan.rows["grader correct"] == "1 for the reference, 0 for nothing (tasks.jsonl:1)"
    assert repr(plan).startswith("the run can start with these settings:\n  base model ")
    assert capsys.readouterr() == ("", "")
    assert sorted(folder.iterdir()) == before
    with pytest.raises(UsageError, match=r"there are only 4 training tasks"):
        rft.check("sampler=fake", "learner=fake", given, "loop.prompts_per_step=5")
