"""The four arms of a run with retrieval: paired, without tasks that could not be graded, and the same after a stop."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rft.data.splits import TaskSets
from rft.errors import GradeError
from rft.metrics.comparison import Comparison
from rft.run.inputs.grounded_tasks import Grounded
from rft.run.training import Training
from rft.run_folder.recorder import Recorder, read_rollouts
from rft.types import GradedGroup, Task

NAMES = ["base", "base + retrieval", "tuned", "tuned + retrieval"]


class Arms:
    """Grades held-out tasks by policy and prompt: only the tuned policy with passages is right.

    Grading the base policy without passages fails for task 0. Task 3 lacks its relevant passage.
    """

    def __init__(self, make_task: Callable[..., Task], make_group: Callable[..., GradedGroup], parts: Any) -> None:
        self.plain = [make_task(f"test {number}", f"k{number}?") for number in range(4)]
        self.num_to_grade = 4
        """Measurements of held-out tasks before grading fails altogether."""
        self._make_group, self._parts = make_group, parts
        self._grade = parts.grade

    def grounded(self) -> Grounded:
        shown = [
            replace(
                task,
                messages=({"role": "user", "content": f"k = 1\n{task.messages[-1]['content']}"},),
                item={**task.item, "passages": [{"id": "p"}], "passages_left_out": task.id == "test 3"},
            )
            for task in self.plain
        ]
        tasks = TaskSets(train=[], validation=[], test=shown)
        held_out = {task.id: task for task in self.plain}
        return Grounded(tasks=tasks, fingerprint="f", kind="local", found={}, held_out=held_out)

    async def grade(self, tasks: Sequence[Task], rollouts: Any, *, rollouts_per_task: int) -> list[GradedGroup]:
        if tasks[0].id != "test 0":
            groups: list[GradedGroup] = await self._grade(tasks, rollouts, rollouts_per_task=rollouts_per_task)
            return groups
        if not self.num_to_grade:
            raise GradeError("the grader is gone")
        self.num_to_grade -= 1
        policy = self._parts.policy
        groups = []
        for task in tasks:
            has_passages = "k = 1" in task.messages[-1]["content"]
            assert bool(task.item["passages"]) == has_passages
            is_lost = task.id == "test 0" and not policy.version and not has_passages
            reward = None if is_lost else float(policy.version > 0 and has_passages)
            groups.append(replace(self._make_group([reward], task.id, policy=policy), task=task))
        return groups


@pytest.fixture
def arms(make_task: Callable[..., Task], make_group: Callable[..., GradedGroup], parts: Any) -> Arms:
    made = Arms(make_task, make_group, parts)
    parts.grade = made.grade
    return made


def opened(training: Callable[..., Training], arms: Arms, folder: Path, **options: Any) -> Training:
    documents = folder / "docs.jsonl"
    documents.write_text('{"text": "k = 1"}\n')
    words = (
        "evaluation.arms=true",
        "retrieval=local",
        f"retrieval.documents={documents}",
        "evaluation.every_steps=null",
    )
    made = training(*words, **options)
    grounded = arms.grounded()
    vars(made.prepared).update(grounded=grounded, held_out=grounded.tasks.test)
    return made


def test_a_run_that_failed_ends_with_the_same_four_arms(
    training: Callable[..., Training], arms: Arms, parts: Any, printed: io.StringIO, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    arms.num_to_grade = 3
    with pytest.raises(GradeError):
        asyncio.run(opened(training, arms, tmp_path).train())
    assert json.loads((run / "summary.json").read_text())["arms"] is None, "the last measurement is missing"
    assert len(list(read_rollouts(run, "after"))) == 4

    arms.num_to_grade = 2
    resumed = opened(training, arms, tmp_path, recorder=Recorder.resume(run, last_step=3), last_step=3)
    asyncio.run(resumed.train())
    compared = Comparison.from_json(json.loads((run / "summary.json").read_text())["arms"])
    assert [(name, value.mean, value.n) for name, value in compared.means.items()] == [
        (name, float(name == NAMES[-1]), 3) for name in NAMES
    ]
    assert (compared.num_left_out, compared.left_out["base"]) == (1, 1), "a fault is no 0"
    assert {part: means["tuned"].n for part, means in compared.subsets.items()} == {
        "passages shown": 2,
        "passages left out": 1,
    }
    assert [len(list(read_rollouts(run, phase))) for phase in ("before without passages", "after")] == [4, 4]
    assert "(tuned + retrieval) - tuned" in printed.getvalue()
