"""Demonstrations that their own graders reject are listed before anything is trained."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Sequence
from typing import Any

import pytest

from rft.data.demonstrations import to_demonstration
from rft.errors import GradeError
from rft.events import Measured
from rft.run.inputs.demonstration_check import graded_demonstrations
from rft.types import Grade, GradedGroup, Rollout, Score, Split, Status, Task


class Panel:
    """The reward of an answer is its number; `?` is a grader's fault."""

    async def grade(
        self, tasks: Sequence[Task], rollouts: AsyncIterable[Rollout], *, rollouts_per_task: int
    ) -> list[GradedGroup]:
        groups = []
        async for rollout in rollouts:
            value = None if rollout.text == "?" else float(rollout.text)
            score = Score(value=value, status=Status.GRADER_ERROR if value is None else Status.OK)
            (task,) = [task for task in tasks if task.id == rollout.task_id]
            grade = Grade(scores={"correct": score}, reward=value)
            groups.append(GradedGroup(task=task, rollouts=(rollout,), grades=(grade,)))
        return groups


def check(*answers: str) -> tuple[Measured, str]:
    rows = [{"prompt": f"task {number}", "completion": answer} for number, answer in enumerate(answers)]
    tasks: Any = [
        to_demonstration(row, split=Split.TRAIN, system=None, where=f"rows.jsonl:{number}")
        for number, row in enumerate(rows, start=1)
    ]
    return asyncio.run(graded_demonstrations(Panel(), tasks, {"correct": {"use": "exact"}}))


def test_good_demonstrations_cause_no_warning() -> None:
    measured, warning = check("1", "1")
    assert (measured.phase, measured.step, measured.estimate.mean, warning) == ("demonstrations", 0, 1.0, "")
    assert [group.rollouts[0].text for group in measured.groups] == ["1", "1"]


def test_low_and_missing_scores_are_listed_the_lowest_first() -> None:
    measured, warning = check("1", "0.5", "?", "0")
    assert measured.estimate.mean == pytest.approx(0.5)
    assert warning == (
        "2 of 3 demonstrations score below 1, 0.25 on average: rows.jsonl:4 (0), rows.jsonl:2 (0.5); remove them from "
        "data.train unless their grader is wrong; 1 demonstration without a score: {'correct: grader error': 1}"
    )


def test_a_panel_that_fails_on_all_of_them_ends_the_run() -> None:
    with pytest.raises(GradeError, match="none of the 2 demonstrations could be graded"):
        check("?", "?")
