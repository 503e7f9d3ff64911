"""The panel: grades a stream of completions with all graders of a run, while others are still being sampled."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from rft.errors import GradeError
from rft.grading.budget import FaultBudget
from rft.grading.cache import ScoreCache
from rft.grading.contract import LoadedGrader
from rft.grading.counters import GraderCounters
from rft.grading.processes.fork_server import ForkServers
from rft.grading.processes.workers import OnRepeat
from rft.grading.running import Runner
from rft.turns import PASSAGES, Author, passages_of
from rft.types import Grade, GradedGroup, Rollout, Score, Status, Task
from rft.waiting import waiting

ENVIRONMENT = "environment"
"""`use` of the environment's own score."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
"""Seconds before the first retry. The pause doubles with each retry and varies by half to spread retries."""


class Panel:
    """Runs the graders of a run and combines their scores into rewards. Belongs to one event loop.

    Args:
        graders: The graders, in the order of their scores.
        max_concurrency: Maximum number of concurrent calls of async graders.
        max_fault_share: Share of its last completions that a grader may fail before the run stops.
        fault_window: Number of these last completions.
        num_workers: Processes for sync graders; None uses all CPUs but one, at least two.
        worker_memory_mb: Memory in MiB that such a process may use beyond the loaded graders; None sets no limit.
        cache_folder: Folder for the scores of deterministic graders; None keeps no scores.
        fork_servers: Shared source of worker processes; None starts separate processes.
        log_folder: The run folder, which keeps the graders' faults and output; None keeps neither.
        on_repeat: Called with the grader, the task and the reason when a call in a worker process is repeated.
        families: Names of the graders that score the tasks of each family, by family; without it, all graders score all
            tasks.

    Raises:
        ValueError: Two graders have the same name.
        OutputError: The cache's folder cannot be used.
    """

    def __init__(
        self,
        graders: Sequence[LoadedGrader],
        *,
        max_concurrency: int = 64,
        max_fault_share: float = 0.1,
        fault_window: int = 200,
        num_workers: int | None = None,
        worker_memory_mb: int | None = None,
        cache_folder: Path | None = None,
        fork_servers: ForkServers | None = None,
        log_folder: Path | None = None,
        on_repeat: OnRepeat | None = None,
        families: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self.graders = tuple(graders)
        self._families = {
            family: tuple(grader for grader in graders if grader.name in names)
            for family, names in (families or {}).items()
        }
        self.counters = {grader.name: GraderCounters() for grader in graders}
        """The counts of each grader."""
        self._runner = Runner(
            graders,
            max_concurrency=max_concurrency,
            num_workers=num_workers,
            worker_memory_mb=worker_memory_mb,
            fork_servers=fork_servers,
            log_folder=log_folder,
            on_repeat=on_repeat,
        )
        self._limits = {
            grader.name: asyncio.Semaphore(grader.max_concurrency) if grader.max_concurrency else nullcontext()
            for grader in graders
        }
        self._budgets = {
            grader.name: FaultBudget(grader.name, max_share=max_fault_share, window=fault_window) for grader in graders
        }
        if len(self._budgets) != len(self.graders):
            raise ValueError(f"graders share a name: {', '.join(grader.name for grader in graders)}")
        self._cache = ScoreCache(cache_folder) if cache_folder else None

    @property
    def workers_replaced(self) -> int:
        """Number of worker processes that were killed at a deadline or crashed."""
        return self._runner.workers.replaced

    @property
    def calls_repeated(self) -> int:
        """Number of calls that were repeated because their worker process was killed or suspended from outside."""
        return self._runner.workers.repeated

    async def grade(
        self, tasks: Sequence[Task], rollouts: AsyncIterable[Rollout], *, rollouts_per_task: int
    ) -> list[GradedGroup]:
        """Grade a stream of rollouts in the order of arrival.

        Args:
            tasks: The sampled tasks, each once.
            rollouts: The stream. Each rollout is graded on arrival, its group when the group is complete.
            rollouts_per_task: Size of each group.

        Returns:
            One group per task, in the order of the tasks; rollouts in the order of their index.

        Raises:
            GradeError: A grader failed too often, or the stream does not contain each rollout of each task once.
            ValueError: A task occurs twice.
        """
        groups = {task.id: _Group(task, rollouts_per_task) for task in tasks}
        if len(groups) != len(tasks):
            raise ValueError("a task occurs twice, so its rollouts are ambiguous")
        try:
            async with asyncio.TaskGroup() as grading:
                async for rollout in rollouts:
                    if rollout.task_id not in groups:
                        raise GradeError(
                            f"a rollout of task {rollout.task_id} arrived, but the task is not to be graded"
                        )
                    group = groups[rollout.task_id]
                    group.add(rollout)
                    for grader in self._graders_of(group.task):
                        if not grader.per_group:
                            grading.create_task(self._grade(grader, group, [rollout]))
                        elif group.is_complete:
                            grading.create_task(self._grade(grader, group, group.in_order()))
                _require_complete(groups.values())
        except BaseExceptionGroup as several:
            first = several.exceptions[0]  # the first error cancels the others
        else:
            return [self._graded(group) for group in groups.values()]
        raise first

    def close(self) -> None:
        """End the worker processes and close the cache, while the event loop still runs."""
        self._runner.close()
        if self._cache:
            self._cache.close()

    async def _grade(self, grader: LoadedGrader, group: _Group, rollouts: Sequence[Rollout]) -> None:
        """Grade one rollout, or all rollouts of a group, with one grader, and keep the scores."""
        counters = self.counters[grader.name]
        task = group.task if grader.per_group else _with_passages(group.task, rollouts[0])
        key = self._cache.key(grader, task, rollouts) if self._cache and grader.is_cached else None
        scores = self._cache.get(key, len(rollouts)) if self._cache and key else None
        if scores is not None:
            counters.cache_hits += 1
        else:
            scores = await self._scores(grader, task, rollouts)
            if self._cache and key:
                self._cache.put(key, scores)
        for rollout, score in zip(rollouts, scores, strict=True):
            group.scores[rollout.index, grader.name] = score
            counters.statuses[score.status] += 1
            self._budgets[grader.name].count(group.task.id, rollout.text, score)

    async def _scores(self, grader: LoadedGrader, task: Task, rollouts: Sequence[Rollout]) -> list[Score]:
        """Call a grader, and repeat a failed call up to its number of retries."""
        for retry in range(grader.retries + 1):
            if retry:
                with waiting(f"a retry of grader '{grader.name}' on task {task.id}"):
                    await asyncio.sleep(_pause(retry))
            async with self._limits[grader.name]:
                scores = await self._runner.run(grader, task, rollouts)
            self.counters[grader.name].count_call(scores, is_retry=retry > 0)
            if not any(score.status.is_grader_fault for score in scores):
                break
        return scores

    def _graders_of(self, task: Task) -> tuple[LoadedGrader, ...]:
        return self._families[task.family] if self._families else self.graders

    def _graded(self, group: _Group) -> GradedGroup:
        graders, grades = self._graders_of(group.task), []
        for rollout in group.in_order():
            scores = {grader.name: group.scores[rollout.index, grader.name] for grader in graders}
            reward = _reward(graders, scores)
            grades.append(Grade(scores=scores, reward=reward, turn_rewards=_by_turn(graders, rollout, reward)))
        return GradedGroup(task=group.task, rollouts=tuple(group.in_order()), grades=tuple(grades))


@dataclass(slots=True)
class _Group:
    """A group while its rollouts arrive."""

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
                f"task {self.task.id}: rollout {rollout.index} arrived twice, or is not in 0 to {self.size - 1}"
            )
        self.rollouts[rollout.index] = rollout

    def in_order(self) -> list[Rollout]:
        return [self.rollouts[index] for index in sorted(self.rollouts)]


def _with_passages(task: Task, rollout: Rollout) -> Task:
    """Return a task with the passages that tools told the policy, after those of its prompt."""
    if not (told := passages_of(rollout.turns)):
        return task
    passages = list(task.item.get(PASSAGES, ()))
    known = {(passage["id"], passage["text"]) for passage in passages}
    passages += [passage for passage in told if (passage["id"], passage["text"]) not in known]
    return replace(task, item={**task.item, PASSAGES: passages})


def _reward(graders: Iterable[LoadedGrader], scores: Mapping[str, Score]) -> float | None:
    """Return the weighted sum; None if a grader with a weight has no value, or the environment failed."""
    if any(score.status is Status.ENVIRONMENT_ERROR for score in scores.values()):
        return None
    reward = 0.0
    for grader in graders:
        value = scores[grader.name].value
        if grader.weight == 0:
            continue
        if value is None:
            return None
        reward += grader.weight * value
    if not math.isfinite(reward):
        values = ", ".join(f"{name} {score.value:g}" for name, score in scores.items() if score.value is not None)
        raise GradeError(
            f"the weighted sum of the scores is too large for a number: {values}; give the graders a range"
        )
    return reward


def _by_turn(graders: Iterable[LoadedGrader], rollout: Rollout, reward: float | None) -> tuple[float, ...]:
    """Return the parts of a reward by turn of the policy: what the environment gave, and all else at the last turn."""
    turns = [turn for turn in rollout.turns if turn.author is Author.POLICY]
    if reward is None or all(turn.reward is None for turn in turns):
        return ()
    weight = sum(grader.weight for grader in graders if grader.use == ENVIRONMENT)
    parts = [weight * (turn.reward or 0.0) for turn in turns]
    parts[-1] += reward - math.fsum(parts)
    return tuple(parts)


def _require_complete(groups: Iterable[_Group]) -> None:
    missing = [
        f"task {group.task.id}: {len(group.rollouts)} of {group.size}" for group in groups if not group.is_complete
    ]
    if missing:
        raise GradeError(f"the stream of rollouts ended with incomplete groups: {'; '.join(missing)}")


def _pause(retry: int) -> float:
    """Return the seconds to wait before a retry, counted from 1."""
    longest: float = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (retry - 1))
    return longest * random.uniform(0.5, 1.0)
