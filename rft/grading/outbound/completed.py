"""Completions of another trainer or of an HTTP request, as rft's records."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rft.grading.panel import Panel
from rft.types import GradedGroup, Message, Policy, Rollout, Split, StopReason, Task

UNKNOWN_POLICY = Policy(version=0, fingerprint="unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A task and its completions.

    Example:
        Completed(id="1", prompt="2 + 2 = ?", completions=("4", "5"), item={"answer": "4"})
    """

    id: str
    """The task's id, unique among concurrently graded tasks."""
    prompt: str | Sequence[Message]
    """A text or a chat."""
    completions: Sequence[str]
    """`[G]` the texts."""
    item: Mapping[str, Any]
    """The task's columns."""
    completion_ids: Sequence[Sequence[int]] = ()
    """`[G]` token ids of each completion; empty if unknown."""

    def task(self) -> Task:
        """Return the task."""
        chat = ({"role": "user", "content": self.prompt},) if isinstance(self.prompt, str) else tuple(self.prompt)
        return Task(id=self.id, messages=chat, item=dict(self.item), split=Split.TEST)

    def rollouts(self) -> list[Rollout]:
        """Return the completions as rollouts of an unknown policy, with NaN as log-probabilities."""
        rollouts = []
        for index, text in enumerate(self.completions):
            ids = tuple(self.completion_ids[index]) if self.completion_ids else ()
            rollouts.append(
                Rollout(
                    task_id=self.id,
                    index=index,
                    prompt_ids=(),
                    completion_ids=ids,
                    logprobs=(math.nan,) * len(ids),
                    text=text,
                    stop=StopReason.STOP,
                    policy=UNKNOWN_POLICY,
                )
            )
        return rollouts


async def grade_completed(panel: Panel, completed: Completed) -> GradedGroup:
    """Grade the completions of one task as one group.

    Raises:
        GradeError: A grader failed too often.
    """

    async def stream() -> AsyncIterator[Rollout]:
        for rollout in completed.rollouts():
            yield rollout

    (group,) = await panel.grade([completed.task()], stream(), rollouts_per_task=len(completed.completions))
    return group
