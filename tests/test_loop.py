"""The loop with parts that hold everything in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from rft.errors import SampleError
from rft.loop import train
from rft.types import Adapter, Grade, GradedGroup, Policy, Rollout, Score, Status, StepReport, StopReason, Task

REWARDS: dict[int, float | None] = {0: 1.0, 1: 0.0, 2: None}
"""Reward of a completion by its index."""


class FakeSampler:
    """Completions in reverse order, as they may well come."""

    def __init__(self, calls: list[Any]) -> None:
        self.calls = calls
        self.policy = Policy(version=0, fingerprint="base")

    async def sample(
        self, tasks: Sequence[Task], *, completions_per_task: int, temperature: float, purpose: str, step: int
    ) -> AsyncIterator[Rollout]:
        self.calls.append(("sample", step, [task.id for task in tasks], completions_per_task, temperature, purpose))
        for task in reversed(tasks):
            for index in reversed(range(completions_per_task)):
                yield Rollout(
                    task_id=task.id,
                    index=index,
                    prompt_ids=(1,),
                    completion_ids=(2,) * (index + 1),
                    logprobs=(-1.0,) * (index + 1),
                    text="x" * index,
                    stop=StopReason.LENGTH if index == 2 else StopReason.STOP,
                    policy=self.policy,
                )

    async def load(self, adapter: Adapter) -> Policy:
        self.calls.append(("load", adapter.policy.version))
        self.policy = adapter.policy
        return self.policy


class FakePanel:
    """Rewards by index."""

    def __init__(self, calls: list[Any]) -> None:
        self.calls = calls

    async def grade(
        self, tasks: Sequence[Task], rollouts: AsyncIterable[Rollout], *, rollouts_per_task: int
    ) -> list[GradedGroup]:
        by_task: dict[str, list[Rollout]] = {task.id: [] for task in tasks}
        async for rollout in rollouts:
            by_task[rollout.task_id].append(rollout)
        self.calls.append(("grade", rollouts_per_task))
        groups = []
        for task in tasks:
            of_task = tuple(sorted(by_task[task.id], key=lambda rollout: rollout.index))
            grades = tuple(self._grade(REWARDS[rollout.index]) for rollout in of_task)
            groups.append(GradedGroup(task=task, rollouts=of_task, grades=grades))
        return groups

    @staticmethod
    def _grade(reward: float | None) -> Grade:
        status = Status.GRADER_ERROR if reward is None else Status.OK
        return Grade(scores={"correct": Score(value=reward, status=status)}, reward=reward)


class FakeLearner:
    """Counts steps and keeps what it was given."""

    def __init__(self, calls: list[Any]) -> None:
        self.calls = calls
        self.steps = 0
        self.seen: list[list[GradedGroup]] = []

    async def learn(self, groups: Sequence[GradedGroup]) -> dict[str, float]:
        self.steps += 1
        self.calls.append(("learn", [rollout.policy.version for group in groups for rollout in group.rollouts]))
        self.seen.append(list(groups))
        return {"loss": 0.5 * self.steps}

    async def publish(self) -> Adapter:
        self.calls.append("publish")
        return Adapter(policy=Policy(version=self.steps, fingerprint=f"f{self.steps}"), config={}, tensors=b"")


async def collect(
    calls: list[Any], make_task: Callable[..., Task], *, steps: range, stop_after: int | None = None
) -> list[tuple[StepReport, list[GradedGroup]]]:
    done = []
    running = train(
        FakeSampler(calls),
        FakePanel(calls),
        FakeLearner(calls),
        lambda step: [make_task(f"{step}a"), make_task(f"{step}b")],
        steps=steps,
        completions_per_prompt=3,
        temperature=0.7,
    )
    async with aclosing(running):
        async for report, groups in running:
            done.append((report, groups))
            if report.step == stop_after:
                break
    return done


def test_each_step_samples_grades_learns_and_syncs(make_task: Callable[..., Task]) -> None:
    calls: list[Any] = []
    asyncio.run(collect(calls, make_task, steps=range(1, 3)))
    assert calls == [
        ("sample", 1, ["1a", "1b"], 3, 0.7, "train"),
        ("grade", 3),
        ("learn", [0] * 6),
        "publish",
        ("load", 1),
        # The second step is sampled by what the first has learned.
        ("sample", 2, ["2a", "2b"], 3, 0.7, "train"),
        ("grade", 3),
        ("learn", [1] * 6),
        "publish",
        ("load", 2),
    ]


def test_what_a_step_reports(make_task: Callable[..., Task]) -> None:
    [(report, groups)] = asyncio.run(collect([], make_task, steps=range(1, 2)))
    assert report.step == 1
    assert report.policy == Policy(version=1, fingerprint="f1")
    assert report.metrics == pytest.approx(
        {
            "reward/mean": 0.5,
            "reward/std": 0.5,
            "score/correct": 0.5,
            "completion/tokens_mean": 2.0,
            "completion/truncated_share": 1 / 3,
            "groups/informative_share": 1.0,
            "rollouts/dropped_share": 1 / 3,
            "learner/loss": 0.5,
        }
    )
    assert report.drops == {"correct: grader error": 2}
    assert list(report.seconds) == ["sample_and_grade", "learn", "sync"]
    assert all(seconds >= 0 for seconds in report.seconds.values())
    assert [group.task.id for group in groups] == ["1a", "1b"]
    assert [rollout.index for rollout in groups[1].rollouts] == [0, 1, 2]


def test_a_resumed_run_begins_with_its_next_step(make_task: Callable[..., Task]) -> None:
    calls: list[Any] = []
    done = asyncio.run(collect(calls, make_task, steps=range(5, 7)))
    assert [report.step for report, _ in done] == [5, 6]
    assert calls[0] == ("sample", 5, ["5a", "5b"], 3, 0.7, "train")


def test_the_step_that_was_yielded_last_is_complete(make_task: Callable[..., Task]) -> None:
    calls: list[Any] = []
    done = asyncio.run(collect(calls, make_task, steps=range(1, 100), stop_after=2))
    assert [report.step for report, _ in done] == [1, 2]
    assert calls[-1] == ("load", 2)


def test_a_failing_part_ends_the_training(make_task: Callable[..., Task]) -> None:
    class FakeBrokenSampler(FakeSampler):
        async def load(self, adapter: Adapter) -> Policy:
            raise SampleError("the sampler is gone")

    async def run() -> None:
        calls: list[Any] = []
        running = train(
            FakeBrokenSampler(calls),
            FakePanel(calls),
            FakeLearner(calls),
            lambda step: [make_task()],
            steps=range(1, 3),
            completions_per_prompt=2,
            temperature=1.0,
        )
        async for _ in running:
            raise AssertionError("a step that was not synced was reported")

    with pytest.raises(SampleError, match="the sampler is gone"):
        asyncio.run(run())
