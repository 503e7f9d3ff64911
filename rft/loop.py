"""The loop: sample, grade, learn, sync. Read this page first.

     tasks --> sampler --> rollouts --> panel --> graded groups --> learner
                  ^                                                    |
                  +------- publication: weights, fingerprint ----------+

This module does not know vLLM, Ray or TRL: the parts implement protocols, and `rft.run` selects them. A step:

1. *sample and grade* (`rft.batches`): `completions_per_prompt` completions of each task. The graders receive each
   completion as soon as it ends, while others are sampled.
2. *learn*: one optimizer step on the graded groups. A completion without a reward teaches nothing; it is counted.
3. *sync*: every sampler loads the new policy and proves that it serves it.

`staleness` is the number of policy versions that the samplers run ahead of the learner. Version s - 1 - staleness (the
base model, if below 1) samples the batch of step s, regardless of the clock. Only refilled groups (`rft.batches`) use
the newest version. With 0 the parts take turns. With 1 a batch is sampled and graded while the learner works on the
previous batch.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping, MutableMapping, Sequence
from typing import Protocol

from rft.batches import Batch, Batcher
from rft.metrics.drops import count_drops
from rft.metrics.step import Stopwatch, staleness_metrics, step_metrics
from rft.types import GradedGroup, Publication, StepReport, Sync


class Learner(Protocol):
    """Trains the policy."""

    async def learn(self, groups: Sequence[GradedGroup]) -> dict[str, float]:
        """Take one optimizer step; return metrics."""

    async def publish(self) -> Publication:
        """Return the current policy."""


async def train(
    batcher: Batcher,
    learner: Learner,
    *,
    steps: range,
    staleness: int = 0,
    published: MutableMapping[int, Publication] | None = None,
) -> AsyncGenerator[tuple[StepReport, Batch]]:
    """Train, and yield the report of each step. Stop iterating to stop training: a yielded step is complete.

    Args:
        batcher: Samples and grades.
        learner: Learns from the batches.
        steps: Numbers of the steps, from 1 for a new run.
        staleness: Policy versions that the samplers run ahead of the learner.
        published: For a resumed run, its last `staleness + 1` policies by version. They sample the batches that were in
            flight again. Each is taken out when the samplers have it.
    """
    sampler = batcher.sampler
    in_flight: deque[asyncio.Task[Batch]] = deque()

    def start(step: int) -> None:
        if step in steps:
            in_flight.append(batcher.start(step))

    try:
        for version in range(steps.start - 1 - staleness, steps.start):
            if version > 0:
                await sampler.load((published or {}).pop(version))
            start(version + 1 + staleness)

        for step in steps:
            watch = Stopwatch()
            batch = await in_flight.popleft()
            watch.lap("sample_and_grade")

            learned = await learner.learn(batch.groups)
            watch.lap("learn")

            sync = await sampler.load(await learner.publish())
            watch.lap("sync")

            yield _report(step, batch, learned, sync, watch.seconds), batch
            start(step + 1 + staleness)
    finally:
        for task in in_flight:
            task.cancel()
        await asyncio.gather(*in_flight, return_exceptions=True)


def _report(
    step: int, batch: Batch, learned: Mapping[str, float], sync: Sync, seconds: Mapping[str, float]
) -> StepReport:
    """The metrics of a step, from those of its parts."""
    metrics = {
        **step_metrics(batch.sampled),
        **staleness_metrics(batch.groups, newest_version=step - 1),
        **batch.metrics,
        "sync/proved": float(sync.proved),
        **sync.metrics,
        **{f"learner/{name}": value for name, value in learned.items()},
    }
    return StepReport(step=step, policy=sync.policy, metrics=metrics, drops=count_drops(batch.sampled), seconds=seconds)
