"""Lets teachers score the completions of a step, in place of graders.

The score of a completion is the mean difference of its tokens' log-probabilities, teacher minus student: an estimate of
the negative reverse KL divergence per token. A completion that the teacher cannot score has no reward and no advantage;
it counts like one on which a grader failed.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import AsyncIterable, Callable, Sequence
from typing import Protocol

from rft.config.teacher_problems import SCORE_NAME
from rft.errors import GradeError, SampleError, SamplersLost
from rft.grading.budget import FaultBudget
from rft.types import Grade, GradedGroup, Logprobs, Rollout, Score, Status, Task


class Scorer(Protocol):
    """Scores sequences of token ids."""

    async def logprobs(self, sequences: Sequence[Sequence[int]]) -> Logprobs:
        """Return `[N][L - 1]` log-probabilities of all tokens but the first of N sequences."""


class TeacherPanel:
    """Scores each group as soon as it is complete, while others are sampled. Implements `rft.batches.Panel`.

    Args:
        teacher_of: Returns the teacher of a task.
        max_fault_share: Share of their last completions that the teachers may fail to score before the run stops.
        fault_window: Number of these last completions.
    """

    def __init__(self, teacher_of: Callable[[Task], Scorer], *, max_fault_share: float, fault_window: int) -> None:
        self._teacher_of = teacher_of
        self._budget = FaultBudget(SCORE_NAME, max_share=max_fault_share, window=fault_window)

    async def grade(
        self, tasks: Sequence[Task], rollouts: AsyncIterable[Rollout], *, rollouts_per_task: int
    ) -> list[GradedGroup]:
        """Score a stream of rollouts.

        Args:
            tasks: The sampled tasks, each once.
            rollouts: The stream.
            rollouts_per_task: Size of each group.

        Returns:
            One group per task, in the order of the tasks; rollouts in the order of their index.

        Raises:
            GradeError: The teacher failed too often, or the stream ended with incomplete groups.
            SamplersLost: The teacher's processes were lost, and could not be replaced.
            WaitTimeout: The teacher did not answer in time.
            ValueError: A task occurs twice.
        """
        arrived: dict[str, list[Rollout]] = {task.id: [] for task in tasks}
        by_id = {task.id: task for task in tasks}
        if len(by_id) != len(tasks):
            raise ValueError("a task occurs twice, so its rollouts are ambiguous")
        scoring: dict[str, asyncio.Task[GradedGroup]] = {}
        try:
            async with asyncio.TaskGroup() as scorers:
                async for rollout in rollouts:
                    group = arrived[rollout.task_id]
                    group.append(rollout)
                    if len(group) == rollouts_per_task:
                        ordered = tuple(sorted(group, key=lambda one: one.index))
                        job = self._scored(by_id[rollout.task_id], ordered)
                        scoring[rollout.task_id] = scorers.create_task(job)
                if missing := [task.id for task in tasks if task.id not in scoring]:
                    raise GradeError(f"the stream of rollouts ended with incomplete groups: {', '.join(missing)}")
        except BaseExceptionGroup as several:
            first = several.exceptions[0]  # the first error cancels the others
        else:
            return [scoring[task.id].result() for task in tasks]
        raise first

    async def _scored(self, task: Task, rollouts: tuple[Rollout, ...]) -> GradedGroup:
        """Return a group with the teacher's scores."""
        began = time.monotonic()
        sequences = [(*rollout.prompt_ids, *rollout.completion_ids) for rollout in rollouts]
        answers = await _answers(self._teacher_of(task), sequences)
        seconds = time.monotonic() - began
        grades: list[Grade] = []
        of_teacher: list[tuple[float, ...] | None] = []
        for rollout, answer in zip(rollouts, answers, strict=True):
            logprobs, reason = (None, answer) if isinstance(answer, str) else _of_completion(rollout, answer)
            score = _score(rollout, logprobs, reason, seconds)
            self._budget.count(task.id, rollout.text, score)
            of_teacher.append(logprobs)
            grades.append(Grade(scores={SCORE_NAME: score}, reward=score.value))
        return GradedGroup(task=task, rollouts=rollouts, grades=tuple(grades), teacher_logprobs=tuple(of_teacher))


async def _answers(teacher: Scorer, sequences: Sequence[Sequence[int]]) -> list[tuple[float, ...] | str]:
    """Return the log-probabilities of each sequence, or the reason why it has none.

    If the teacher fails on a group, each of its sequences is scored alone, so that one costs the others nothing.
    """
    try:
        return list(await teacher.logprobs(sequences))
    except SamplersLost:
        raise
    except SampleError as error:
        if len(sequences) == 1:
            return [str(error)]
    return [answer for sequence in sequences for answer in await _answers(teacher, [sequence])]


def _of_completion(rollout: Rollout, logprobs: Sequence[float]) -> tuple[tuple[float, ...] | None, str | None]:
    """Return the log-probabilities of the completion's tokens, or None and the reason why they cannot be used."""
    of_completion = tuple(logprobs[len(rollout.prompt_ids) - 1 :])
    if len(of_completion) != len(rollout.completion_ids):
        return None, f"{len(of_completion)} log-probabilities for {len(rollout.completion_ids)} tokens"
    if not all(map(math.isfinite, of_completion)):
        position = next(place for place, value in enumerate(of_completion) if not math.isfinite(value))
        return None, f"the log-probability of token {position} is {of_completion[position]}"
    return of_completion, None


def _score(rollout: Rollout, logprobs: tuple[float, ...] | None, reason: str | None, seconds: float) -> Score:
    """Return the score of a completion: the mean difference of its log-probabilities, teacher minus student."""
    if logprobs is None:
        return Score(value=None, status=Status.GRADER_ERROR, reason=reason, seconds=seconds)
    if not logprobs:
        return Score(value=None, status=Status.SKIPPED, reason="the completion has no tokens", seconds=seconds)
    differences = [ours - theirs for ours, theirs in zip(logprobs, rollout.logprobs, strict=True)]
    return Score(value=statistics.fmean(differences), seconds=seconds)
