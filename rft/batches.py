"""Batches: the graded groups of one step, sampled and graded while the learner may still be at an earlier one.

A group whose rewards are all equal teaches a group-relative method nothing. With `refill_rounds` above 0, such groups
are put aside and as many other tasks are sampled in their stead, under the newest policy, round after round: the
dynamic sampling of DAPO (arXiv 2503.14476, section 3.2).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from rft.types import GradedGroup, Publication, Rollout, Sync, Task


class Sampler(Protocol):
    """Samples completions under one policy."""

    def sample(
        self, tasks: Sequence[Task], *, completions_per_task: int, temperature: float, purpose: str, step: int
    ) -> AsyncIterator[Rollout]:
        """Begin to sample at once, under the policy served now; stream completions as they end, in any order."""

    async def load(self, publication: Publication) -> Sync:
        """Serve this policy from now on, everywhere, and prove it. What is being sampled keeps its policy."""


class Panel(Protocol):
    """Grades completions."""

    async def grade(
        self, tasks: Sequence[Task], rollouts: AsyncIterable[Rollout], *, rollouts_per_task: int
    ) -> list[GradedGroup]:
        """Grade a stream as it comes; return the groups in the order of the tasks."""


class TaskOrder(Protocol):
    """Says which tasks are sampled, as a pure function of its arguments."""

    def of_step(self, step: int) -> list[Task]:
        """The tasks of a step."""

    def refill(self, step: int, round: int, *, count: int, taken: Collection[str]) -> list[Task]:
        """Up to `count` other tasks than those of the ids `taken`, to fill up a step's batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one step trains on.

    Example:
        Batch(groups=(group_0, group_1), put_aside=(group_2,), refill_rounds=1)
    """

    groups: tuple[GradedGroup, ...]
    """`[prompts_per_step]` what the learner gets."""
    put_aside: tuple[GradedGroup, ...] = ()
    """Groups without a difference in reward that others took the place of."""
    refill_rounds: int | None = None
    """How often tasks were sampled in their stead; None where refilling is off."""

    @property
    def sampled(self) -> tuple[GradedGroup, ...]:
        """Everything that was sampled and graded."""
        return self.groups + self.put_aside

    @property
    def metrics(self) -> dict[str, float]:
        """`groups/put_aside`, `groups/refill_rounds` and `groups/trained_informative_share`; none without refilling."""
        if self.refill_rounds is None:
            return {}
        informative = sum(group.is_informative for group in self.groups)
        return {
            "groups/put_aside": float(len(self.put_aside)),
            "groups/refill_rounds": float(self.refill_rounds),
            "groups/trained_informative_share": informative / len(self.groups),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Batcher:
    """Makes the batches of a run."""

    sampler: Sampler
    """Samples completions."""
    panel: Panel
    """Grades them."""
    order: TaskOrder
    """Chooses the tasks."""
    completions_per_prompt: int
    """Completions sampled of each task."""
    temperature: float
    """Of the softmax."""
    refill_rounds: int = 0
    """How often groups without a difference in reward may be replaced; 0 trains on them all the same."""

    def start(self, step: int) -> asyncio.Task[Batch]:
        """Begin a step's batch under the policy that is served at this moment."""
        tasks = self.order.of_step(step)
        return asyncio.create_task(self._collect(step, tasks, self._sample(step, tasks)), name=f"batch of step {step}")

    def _sample(self, step: int, tasks: Sequence[Task], round: int = 0) -> AsyncIterator[Rollout]:
        return self.sampler.sample(
            tasks,
            completions_per_task=self.completions_per_prompt,
            temperature=self.temperature,
            purpose=f"train, refill {round}" if round else "train",
            step=step,
        )

    async def _collect(self, step: int, tasks: Sequence[Task], rollouts: AsyncIterator[Rollout]) -> Batch:
        groups = await self.panel.grade(tasks, rollouts, rollouts_per_task=self.completions_per_prompt)
        if not self.refill_rounds:
            return Batch(groups=tuple(groups))
        kept = [group for group in groups if group.is_informative]
        dull = [group for group in groups if not group.is_informative]
        taken = {task.id for task in tasks}
        rounds = 0
        while len(kept) < len(tasks) and rounds < self.refill_rounds:
            rounds += 1
            more = self.order.refill(step, rounds, count=len(tasks) - len(kept), taken=taken)
            if not more:
                break
            taken |= {task.id for task in more}
            graded = await self.panel.grade(
                more, self._sample(step, more, rounds), rollouts_per_task=self.completions_per_prompt
            )
            kept += [group for group in graded if group.is_informative]
            dull += [group for group in graded if not group.is_informative]
        # What is still missing is made up by groups that teach nothing, so that a step is always of the same size.
        missing = len(tasks) - len(kept)
        return Batch(groups=(*kept, *dull[:missing]), put_aside=tuple(dull[missing:]), refill_rounds=rounds)
