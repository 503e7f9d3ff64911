"""The steps of a run that learns from demonstrations: learn, and sync when something is to be measured.

`rft.loop` samples what it learns from. Demonstrations, and preferences, are there already, so samplers need a new
policy only for measurements.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rft.config import RunConfig
from rft.data.training_rows import RowOrder, TrainingRows
from rft.metrics.step import Stopwatch
from rft.run.task_order import task_order
from rft.types import Policy, Publication, StepReport, Sync, Task


@dataclass(frozen=True)
class ComputedBatches:
    """The batches of a run that learns from demonstrations. They are computed again instead of recorded."""

    order: RowOrder
    """The batch of each step."""

    def write(self, step: int, batch: Sequence[Any]) -> None:
        """Do nothing."""

    def read(self, step: int) -> Sequence[Any]:
        """Return the batch of a step."""
        return self.order.of_step(step)

    def remove(self, *, up_to: int) -> None:
        """Do nothing."""


def demonstrations_of(run: RunConfig, tasks: Sequence[Task], rows: TrainingRows) -> RowOrder:
    """Return the order of a run's demonstrations."""
    return rows.ordered(task_order(run, tasks))


class RowLearner(Protocol):
    """Trains the policy on batches of demonstrations."""

    async def learn(self, batch: Sequence[Any]) -> dict[str, float]:
        """Take one optimizer step; return metrics."""

    async def policy(self) -> Policy:
        """Return version and fingerprint of the current policy."""

    async def publish(self) -> Publication:
        """Return the current policy with its weights."""


class Loads(Protocol):
    """Serves policies."""

    async def load(self, publication: Publication) -> Sync:
        """Load this policy into all samplers and prove it."""


async def train_on_demonstrations(
    order: RowOrder,
    learner: RowLearner,
    sampler: Loads,
    *,
    steps: range,
    is_measured: Callable[[int], bool],
    validate: Callable[[int], Awaitable[Mapping[str, float]]],
) -> AsyncGenerator[StepReport]:
    """Train, and yield the report of each step. Stop iterating to stop training: a yielded step is complete.

    Args:
        order: The batch of each step.
        learner: Learns from the batches.
        sampler: Loads the policy of each step after which something is measured.
        steps: Numbers of the steps, from 1 for a new run.
        is_measured: Whether a measurement follows a step.
        validate: Measures the policy of the learner after a step, before samplers take the memory of its GPU again;
            returns metrics, which may be empty.
    """
    if steps.start > 1:  # a resumed run, which may have nothing left but its last measurement
        await sampler.load(await learner.publish())
    for step in steps:
        watch = Stopwatch()
        batch = order.of_step(step)
        watch.lap("render")
        learned = await learner.learn(batch)
        watch.lap("learn")
        validated = await validate(step)
        if validated:
            watch.lap("validation_loss")
        policy = await learner.policy()
        watch.lap("learn")
        synced: Mapping[str, float] = {}
        if is_measured(step):
            sync = await sampler.load(await learner.publish())
            synced = {"sync/proved": float(sync.proved), **sync.metrics}
            watch.lap("sync")
        metrics = {
            **order.metrics(batch),
            **synced,
            **validated,
            **{f"learner/{name}": value for name, value in learned.items()},
        }
        yield StepReport(step=step, policy=policy, metrics=metrics, seconds=watch.seconds)
