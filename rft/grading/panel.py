"""The panel: all graders of a run, over a stream of completions. Grading overlaps sampling."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rft.errors import GradeError, WaitTimeout
from rft.grading.budget import FaultBudget
from rft.grading.contract import LoadedGrader
from rft.grading.normalise import describe_error, to_score, to_scores
from rft.grading.running import Runner
from rft.types import Grade, GradedGroup, Rollout, Score, Status, Task
from rft.waiting import waiting


class Panel:
    """Runs the graders of a run and combines their scores into rewards. Belongs to one event loop.

    Args:
        graders: The graders, in the order in which their scores are listed.
        max_concurrency: Calls of graders at a time.
        max_fault_share: Share of its last completions that a grader may fail before the run stops.
        fault_window: How many completions that is.

    Raises:
        ValueError: Two graders have the same name.
    """

    def __init__(
        self,
        graders: Sequence[LoadedGrader],
        *,
        max_concurrency: int = 64,
        max_fault_share: float = 0.1,
        fault_window: int = 200,
    ) -> None:
        self.graders = tuple(graders)
        self._slots = asyncio.Semaphore(max_concurrency)
        self._runner = Runner()
        self._budgets = {
            grader.name: FaultBudget(grader.name, max_share=max_fault_share, window=fault_window) for grader in graders
        }
        if len(self._budgets) != len(self.graders):
            raise ValueError(f"graders share a name: {', '.join(grader.name for grader in graders)}")

    async def grade(
        self, tasks: Sequence[Task], rollouts: AsyncIterable[Rollout], *, rollouts_per_task: int
    ) -> list[GradedGroup]:
        """Grade a stream of rollouts as they come, in any order.

        Args:
            tasks: The tasks that were sampled, each once.
            rollouts: The stream; each rollout is graded at once, its whole group as soon as that is complete.
            rollouts_per_task: Size of each group.

        Returns:
            One group a task, in the order of the tasks; rollouts in the order of their index.

        Raises:
            GradeError: A grader failed too often, or the stream does not hold each rollout of each task exactly once.
            ValueError: A task is there twice.
        """
        groups = {task.id: _Group(task, rollouts_per_task) for task in tasks}
        if len(groups) != len(tasks):
            raise ValueError("a task is there twice; its rollouts could not be told apart")
        try:
            async with asyncio.TaskGroup() as grading:
                async for rollout in rollouts:
                    if rollout.task_id not in groups:
                        raise GradeError(f"a rollout came of task {rollout.task_id}, which is not to be graded")
                    group = groups[rollout.task_id]
                    group.add(rollout)
                    for grader in self.graders:
                        if not grader.per_group:
                            grading.create_task(self._grade(grader, group, [rollout]))
                        elif group.is_complete:
                            grading.create_task(self._grade(grader, group, group.in_order()))
                _require_complete(groups.values())
        except BaseExceptionGroup as several:
            first = several.exceptions[0]  # the one that made the task group cancel the rest
        else:
            return [self._graded(group) for group in groups.values()]
        raise first

    def close(self) -> None:
        """Let go of graders that are still running after their deadline."""
        self._runner.close()

    async def _grade(self, grader: LoadedGrader, group: _Group, rollouts: Sequence[Rollout]) -> None:
        """Have one grader grade one rollout, or all rollouts of a group, and keep the scores."""
        async with self._slots:
            started = time.perf_counter()
            with waiting(f"grader '{grader.name}' on task {group.task.id}"):
                scores = await self._scores(grader, group.task, rollouts)
            seconds = time.perf_counter() - started
        for rollout, score in zip(rollouts, scores, strict=True):
            group.scores[rollout.index, grader.name] = replace(score, seconds=seconds)
            self._budgets[grader.name].count(group.task.id, score)

    async def _scores(self, grader: LoadedGrader, task: Task, rollouts: Sequence[Rollout]) -> list[Score]:
        texts = [rollout.text for rollout in rollouts]
        pool = {
            "task": task,
            "completion": texts[0],
            "completions": texts,
            "rollout": rollouts[0],
            "rollouts": list(rollouts),
        }
        try:
            result = await self._runner.run(grader, {name: pool[name] for name in grader.takes})
            return to_scores(result, len(rollouts)) if grader.per_group else [to_score(result)]
        except WaitTimeout:
            status, reason = Status.TIMEOUT, f"no result within {grader.timeout_s:g} s"
        except Exception as error:
            status, reason = Status.GRADER_ERROR, describe_error(error, grader.file)
        return [Score(value=None, status=status, reason=reason)] * len(rollouts)

    def _graded(self, group: _Group) -> GradedGroup:
        grades = []
        for rollout in group.in_order():
            scores = {grader.name: group.scores[rollout.index, grader.name] for grader in self.graders}
            grades.append(Grade(scores=scores, reward=self._reward(scores)))
        return GradedGroup(task=group.task, rollouts=tuple(group.in_order()), grades=tuple(grades))

    def _reward(self, scores: Mapping[str, Score]) -> float | None:
        """Return the weighted sum; None as soon as a grader whose weight is not 0 has no value."""
        reward = 0.0
        for grader in self.graders:
            value = scores[grader.name].value
            if grader.weight == 0:
                continue
            if value is None:
                return None
            reward += grader.weight * value
        return reward


@dataclass(slots=True)
class _Group:
    """A group while its rollouts come in."""

    task: Task
    size: int
    rollouts: dict[int, Rollout] = field(default_factory=dict)
    scores: dict[tuple[int, str], Score] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        return len(self.rollouts) == self.size

    def add(self, rollout: Rollout) -> None:
        if rollout.index in self.rollouts or not 0 <= rollout.index < self.size:
            raise GradeError(
                f"task {self.task.id}: rollout {rollout.index} came twice, or is not one of 0 to {self.size - 1}"
            )
        self.rollouts[rollout.index] = rollout

    def in_order(self) -> list[Rollout]:
        return [self.rollouts[index] for index in sorted(self.rollouts)]


def _require_complete(groups: Iterable[_Group]) -> None:
    missing = [
        f"task {group.task.id}: {len(group.rollouts)} of {group.size}" for group in groups if not group.is_complete
    ]
    if missing:
        raise GradeError(f"the stream of rollouts ended with incomplete groups: {'; '.join(missing)}")
