"""Lets teachers score the completions of a step, in place of graders.

The score of a completion is the mean difference of its tokens' log-probabilities, teacher minus student: an estimate of
the negative reverse KL divergence per token. A completion that the teacher cannot score has no reward and no advantage;
it counts like one on which a grader failed. With `teacher.top_logprobs`, the teacher also returns its most probable
tokens at each token of the completion; a completion has both or neither.
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
from rft.sampling.engine import TopRequest, Tops
from rft.types import Grade, GradedGroup, Logprobs, Rollout, Score, Status, Task, TopTokens


class Scorer(Protocol):
    """Scores sequences of token ids."""

    async def logprobs(self, sequences: Sequence[Sequence[int]]) -> Logprobs:
        """Return `[N][L - 1]` log-probabilities of all tokens but the first of N sequences."""

    async def top_logprobs(self, sequences: Sequence[Sequence[int]], request: TopRequest) -> Tops:
        """Return the same, and the most probable tokens at each position."""


_Answer = tuple[tuple[float, ...], TopTokens | None]
"""The log-probabilities of a sequence, and the most probable tokens of its completion, if they were requested."""


class TeacherPanel:
    """Scores each group as soon as it is complete, while others are sampled. Implements `rft.batches.Panel`.

    Args:
        teacher_of: Returns the teacher of a task.
        max_fault_share: Share of their last completions that the teachers may fail to score before the run stops.
        fault_window: Number of these last completions.
        top_logprobs: Number of the teacher's most probable tokens to record at each token of a completion.
    """

    def __init__(
        self, teacher_of: Callable[[Task], Scorer], *, max_fault_share: float, fault_window: int, top_logprobs: int = 0
    ) -> None:
        self._teacher_of = teacher_of
        self._k = top_logprobs
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
        answers = await _answers(self._teacher_of(task), rollouts, self._k)
        seconds = time.monotonic() - began
        grades: list[Grade] = []
        of_teacher: list[tuple[float, ...] | None] = []
        tops: list[TopTokens | None] = []
        for rollout, answer in zip(rollouts, answers, strict=True):
            logprobs, top, reason = (None, None, answer) if isinstance(answer, str) else _usable(rollout, *answer)
            score = _score(rollout, logprobs, reason, seconds)
            self._budget.count(task.id, rollout.text, score)
            of_teacher.append(logprobs)
            tops.append(top)
            grades.append(Grade(scores={SCORE_NAME: score}, reward=score.value))
        return GradedGroup(
            task=task,
            rollouts=rollouts,
            grades=tuple(grades),
            teacher_logprobs=tuple(of_teacher),
            teacher_top=tuple(tops) if self._k else (),
        )


async def _answers(teacher: Scorer, rollouts: Sequence[Rollout], k: int) -> list[_Answer | str]:
    """Return the scores of each completion, or the reason why it has none.

    If the teacher fails on a group, each of its completions is scored alone, so that one costs the others nothing.
    """
    sequences = [(*rollout.prompt_ids, *rollout.completion_ids) for rollout in rollouts]
    try:
        if not k:
            return [(row, None) for row in await teacher.logprobs(sequences)]
        request = TopRequest(k, tuple(len(rollout.prompt_ids) for rollout in rollouts))
        return list(zip(*await teacher.top_logprobs(sequences, request), strict=True))
    except SamplersLost:
        raise
    except SampleError as error:
        if len(rollouts) == 1:
            return [str(error)]
    return [answer for rollout in rollouts for answer in await _answers(teacher, [rollout], k)]


def _usable(
    rollout: Rollout, logprobs: Sequence[float], top: TopTokens | None
) -> tuple[tuple[float, ...] | None, TopTokens | None, str | None]:
    """Return the scores of the completion's tokens, or None and the reason why they cannot be used.

    A token that the teacher excludes has a log-probability of -infinity, which is right among the most probable ones.
    """
    of_completion, tokens = tuple(logprobs[len(rollout.prompt_ids) - 1 :]), len(rollout.completion_ids)
    if len(of_completion) != tokens:
        return None, None, f"{len(of_completion)} log-probabilities for {tokens} tokens"
    if not all(map(math.isfinite, of_completion)):
        position = next(place for place, value in enumerate(of_completion) if not math.isfinite(value))
        return None, None, f"the log-probability of token {position} is {of_completion[position]}"
    if top is not None and not len(top.ids) == len(top.logprobs) == tokens * top.k:
        return None, None, f"{len(top.logprobs)} log-probabilities of the {top.k} best tokens for {tokens} tokens"
    if top is not None and not all(value < math.inf for value in top.logprobs):  # also false for NaN
        place = next(place for place, value in enumerate(top.logprobs) if not value < math.inf)
        return None, None, f"a log-probability of the best tokens at token {place // top.k} is {top.logprobs[place]}"
    return of_completion, top, None


def _score(rollout: Rollout, logprobs: tuple[float, ...] | None, reason: str | None, seconds: float) -> Score:
    """Return the score of a completion: the mean difference of its log-probabilities, teacher minus student."""
    if logprobs is None:
        return Score(value=None, status=Status.GRADER_ERROR, reason=reason, seconds=seconds)
    if not logprobs:
        return Score(value=None, status=Status.SKIPPED, reason="the completion has no tokens", seconds=seconds)
    differences = [ours - theirs for ours, theirs in zip(logprobs, rollout.logprobs, strict=True)]
    return Score(value=statistics.fmean(differences), seconds=seconds)
