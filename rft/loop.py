"""The loop: sample, grade, learn, sync. Read this page first.

     tasks --> sampler --> rollouts --> panel --> graded groups --> learner
                  ^                                                    |
                  +------------------- adapter ------------------------+

Nothing here knows vLLM, Ray or TRL: the three parts stand behind the protocols below, and `rft.app` decides what they
are. A step on the way:

1. *sample*: `completions_per_prompt` completions of each task of this step, under the policy that was synced last.
2. *grade*: each completion goes to the graders the moment it ends, while its neighbours are still being sampled.
3. *learn*: one optimizer step on the graded groups. A completion without a reward teaches nothing; it is counted.
4. *sync*: the new adapter goes to every sampler, and the next step does not start before all of them serve it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Sequence
from typing import Protocol

from rft.metrics import Stopwatch, step_metrics
from rft.types import Adapter, GradedGroup, Policy, Rollout, StepReport, Task, count_drops


class Sampler(Protocol):
    """Samples completions under one policy."""

    def sample(
        self, tasks: Sequence[Task], *, completions_per_task: int, temperature: float, purpose: str, step: int
    ) -> AsyncIterator[Rollout]:
        """Stream completions as they end, in any order."""

    async def load(self, adapter: Adapter) -> Policy:
        """Serve this adapter from now on, everywhere."""


class Panel(Protocol):
    """Grades completions."""

    async def grade(
        self, tasks: Sequence[Task], rollouts: AsyncIterable[Rollout], *, rollouts_per_task: int
    ) -> list[GradedGroup]:
        """Grade a stream as it comes; return the groups in the order of the tasks."""


class Learner(Protocol):
    """Trains the adapter."""

    async def learn(self, groups: Sequence[GradedGroup]) -> dict[str, float]:
        """Take one optimizer step; return metrics."""

    async def publish(self) -> Adapter:
        """The adapter as it stands now."""


async def train(
    sampler: Sampler,
    panel: Panel,
    learner: Learner,
    tasks_of_step: Callable[[int], list[Task]],
    *,
    steps: range,
    completions_per_prompt: int,
    temperature: float,
) -> AsyncGenerator[tuple[StepReport, list[GradedGroup]]]:
    """Train, yielding what each step did. Stop iterating to stop training: the step that was yielded is complete.

    Args:
        sampler: Samples completions.
        panel: Grades them.
        learner: Learns from them.
        tasks_of_step: The tasks of a step, a pure function of its number.
        steps: Numbers of the steps to do, from 1 for a new run.
        completions_per_prompt: Completions sampled of each task.
        temperature: Of the softmax.
    """
    for step in steps:
        watch = Stopwatch()
        tasks = tasks_of_step(step)

        rollouts = sampler.sample(
            tasks, completions_per_task=completions_per_prompt, temperature=temperature, purpose="train", step=step
        )
        groups = await panel.grade(tasks, rollouts, rollouts_per_task=completions_per_prompt)
        watch.lap("sample_and_grade")

        learned = await learner.learn(groups)
        watch.lap("learn")

        policy = await sampler.load(await learner.publish())
        watch.lap("sync")

        metrics = step_metrics(groups) | {f"learner/{name}": value for name, value in learned.items()}
        report = StepReport(step=step, policy=policy, metrics=metrics, drops=count_drops(groups), seconds=watch.seconds)
        yield report, groups
