"""Batches: the graded groups of one step, sampled and graded while the learner may still work on an earlier step.

A group of equal rewards teaches a group-relative method nothing. With `refill_rounds` above 0, the batcher puts such
groups aside and samples as many other tasks under the newest policy, round after round. This is the dynamic sampling of
DAPO (arXiv 2503.14476, section 3.2).
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
        """Start sampling under the current policy; stream completions as they end, in any order."""

    async def load(self, publication: Publication) -> Sync:
        """Load this policy into all samplers and prove it. Running requests keep their policy."""


class Panel(Protocol):
    """Grades completions."""

    async def grade(
        self, tasks: Sequence[Task], rollouts: AsyncIterable[Rollout], *, rollouts_per_task: int
    ) -> list[GradedGroup]:
        """Grade a stream of completions as they arrive; return the groups in the order of the tasks."""


class TaskOrder(Protocol):
    """Selects the tasks to sample, as a pure function of its arguments."""

    def of_step(self, step: int) -> list[Task]:
        """Return the tasks of a step."""

    def refill(self, step: int, round: int, *, count: int, taken: Collection[str]) -> list[Task]:
        """Return up to `count` other tasks, without the ids in `taken`, to fill up a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The training data of one step.

    Example:
        Batch(groups=(group_0, group_1), put_aside=(group_2,), refill_rounds=1)
    """

    groups: tuple[GradedGroup, ...]
    """`[prompts_per_step]` groups for the learner."""
    put_aside: tuple[GradedGroup, ...] = ()
    """Replaced groups, which have no difference in reward."""
    refill_rounds: int | None = None
    """Number of refill rounds; None if refilling is off."""

    @property
    def sampled(self) -> tuple[GradedGroup, ...]:
        """All sampled and graded groups."""
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
    """Completions per task."""
    temperature: float
    """Sampling temperature."""
    refill_rounds: int = 0
    """Maximum number of refill rounds; 0 trains on groups without a difference in reward."""

    def start(self, step: int) -> asyncio.Task[Batch]:
        """Start the batch of a step under the current policy."""
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
        # Uninformative groups fill the remaining places, so that all steps have the same size.
        missing = len(tasks) - len(kept)
        return Batch(groups=(*kept, *dull[:missing]), put_aside=tuple(dull[missing:]), refill_rounds=rounds)
