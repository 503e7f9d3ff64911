"""The loop with parts that hold everything in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import pytest

from rft.batches import Batch, Batcher
from rft.errors import SampleError
from rft.loop import train
from rft.types import (
    Adapter,
    Grade,
    GradedGroup,
    Policy,
    Publication,
    Rollout,
    Score,
    Status,
    StepReport,
    StopReason,
    Sync,
    Task,
)

REWARDS: dict[int, float | None] = {0: 1.0, 1: 0.0, 2: None}
"""Reward of a completion by its index."""


class FakeSampler:
    """Completions in reverse order, as they may well come."""

    def __init__(self, calls: list[Any]) -> None:
        self.calls = calls
        self.policy = Policy(version=0, fingerprint="base")

    def sample(
        self, tasks: Sequence[Task], *, completions_per_task: int, temperature: float, purpose: str, step: int
    ) -> AsyncIterator[Rollout]:
        self.calls.append(("sample", step, [task.id for task in tasks], completions_per_task, temperature, purpose))
        return self._stream(tasks, completions_per_task, self.policy)

    async def _stream(self, tasks: Sequence[Task], completions_per_task: int, policy: Policy) -> AsyncIterator[Rollout]:
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
                    policy=policy,
                )

    async def load(self, publication: Publication) -> Sync:
        self.calls.append(("load", publication.policy.version))
        self.policy = publication.policy
        return Sync(policy=self.policy, proved=True, metrics={"sync/bytes": 8.0})


class FakePanel:
    """Rewards by index, but equal ones in the groups of tasks whose name says that they are dull."""

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
            rewards = [0.25 if "dull" in task.id else REWARDS[rollout.index] for rollout in of_task]
            groups.append(GradedGroup(task=task, rollouts=of_task, grades=tuple(map(self._grade, rewards))))
        return groups

    @staticmethod
    def _grade(reward: float | None) -> Grade:
        status = Status.GRADER_ERROR if reward is None else Status.OK
        return Grade(scores={"correct": Score(value=reward, status=status)}, reward=reward)


def publication(version: int) -> Publication:
    policy = Policy(version=version, fingerprint=f"f{version}")
    return Publication(weights=Adapter(policy=policy, config={}, tensors=b""))


class FakeLearner:
    """Counts steps and keeps what it was given."""

    def __init__(self, calls: list[Any], steps_done: int = 0) -> None:
        self.calls = calls
        self.steps = steps_done

    async def learn(self, groups: Sequence[GradedGroup]) -> dict[str, float]:
        await asyncio.sleep(0)  # while it learns, batches in flight go on
        self.steps += 1
        self.calls.append(("learn", [rollout.policy.version for group in groups for rollout in group.rollouts]))
        return {"loss": 0.5 * self.steps}

    async def publish(self) -> Publication:
        self.calls.append("publish")
        return publication(self.steps)


@dataclass
class FakeOrder:
    """Two tasks a step, and others by the names given to refill with."""

    make_task: Callable[..., Task]
    names: tuple[str, str] = ("a", "b")
    others: Sequence[str] = ()

    def of_step(self, step: int) -> list[Task]:
        return [self.make_task(f"{step}{name}") for name in self.names]

    def refill(self, step: int, round: int, *, count: int, taken: Collection[str]) -> list[Task]:
        return [self.make_task(name) for name in self.others if name not in taken][:count]


async def collect(
    calls: list[Any],
    order: FakeOrder,
    *,
    steps: range,
    stop_after: int | None = None,
    staleness: int = 0,
    refill_rounds: int = 0,
    published: Mapping[int, Publication] | None = None,
) -> list[tuple[StepReport, Batch]]:
    done = []
    batcher = Batcher(
        sampler=FakeSampler(calls),
        panel=FakePanel(calls),
        order=order,
        completions_per_prompt=3,
        temperature=0.7,
        refill_rounds=refill_rounds,
    )
    learner = FakeLearner(calls, steps_done=steps.start - 1)
    running = train(batcher, learner, steps=steps, staleness=staleness, published=published)
    async with aclosing(running):
        async for report, batch in running:
            done.append((report, batch))
            if report.step == stop_after:
                break
    return done


def versions_learned(calls: Sequence[Any]) -> list[int]:
    """The version that sampled each step's batch; a batch of several would fail."""
    return [
        version for kind, versions in (call for call in calls if call[0] == "learn") for (version,) in [set(versions)]
    ]


def test_each_step_samples_grades_learns_and_syncs(make_task: Callable[..., Task]) -> None:
    calls: list[Any] = []
    asyncio.run(collect(calls, FakeOrder(make_task), steps=range(1, 3)))
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
    [(report, batch)] = asyncio.run(collect([], FakeOrder(make_task), steps=range(1, 2)))
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
            "policy/staleness_mean": 0.0,
            "policy/staleness_max": 0.0,
            "sync/proved": 1.0,
            "sync/bytes": 8.0,
            "learner/loss": 0.5,
        }
    )
    assert report.drops == {"correct: grader error": 2}
    assert list(report.seconds) == ["sample_and_grade", "learn", "sync"]
    assert all(seconds >= 0 for seconds in report.seconds.values())
    assert [group.task.id for group in batch.groups] == ["1a", "1b"]
    assert [rollout.index for rollout in batch.groups[1].rollouts] == [0, 1, 2]


@pytest.mark.parametrize(
    ("staleness", "versions"), [(0, [0, 1, 2, 3, 4]), (1, [0, 0, 1, 2, 3]), (2, [0, 0, 0, 1, 2]), (9, [0] * 5)]
)
def test_a_batch_is_sampled_as_many_versions_behind_as_is_allowed(
    staleness: int, versions: list[int], make_task: Callable[..., Task]
) -> None:
    calls: list[Any] = []
    done = asyncio.run(collect(calls, FakeOrder(make_task), steps=range(1, 6), staleness=staleness))
    assert versions_learned(calls) == versions
    behind = [step - 1 - version for step, version in enumerate(versions, 1)]
    assert [report.metrics["policy/staleness_max"] for report, _ in done] == behind
    assert [call[1] for call in calls if call[0] == "sample"] == [1, 2, 3, 4, 5]  # and none for a step 6


def test_with_staleness_a_batch_is_made_while_the_learner_is_at_the_one_before(make_task: Callable[..., Task]) -> None:
    calls: list[Any] = []
    asyncio.run(collect(calls, FakeOrder(make_task), steps=range(1, 4), staleness=1))
    assert calls[:3] == [
        ("sample", 1, ["1a", "1b"], 3, 0.7, "train"),
        ("sample", 2, ["2a", "2b"], 3, 0.7, "train"),
        ("grade", 3),
    ]
    assert calls.index(("load", 1)) < calls.index(("sample", 3, ["3a", "3b"], 3, 0.7, "train"))


@pytest.mark.parametrize("staleness", [0, 1, 2, 3])
@pytest.mark.parametrize("steps_done", [1, 2, 4])
def test_a_resumed_run_samples_under_the_policies_of_the_uninterrupted_one(
    staleness: int, steps_done: int, make_task: Callable[..., Task]
) -> None:
    whole: list[Any] = []
    asyncio.run(collect(whole, FakeOrder(make_task), steps=range(1, 7), staleness=staleness))
    resumed: list[Any] = []
    last = range(max(1, steps_done - staleness), steps_done + 1)
    done = asyncio.run(
        collect(
            resumed,
            FakeOrder(make_task),
            steps=range(steps_done + 1, 7),
            staleness=staleness,
            published={version: publication(version) for version in last},
        )
    )
    assert [report.step for report, _ in done] == list(range(steps_done + 1, 7))
    assert versions_learned(resumed) == versions_learned(whole)[steps_done:]


def test_a_run_resumed_at_its_end_serves_the_last_policy(make_task: Callable[..., Task]) -> None:
    calls: list[Any] = []
    published = {version: publication(version) for version in (4, 5)}
    assert not asyncio.run(collect(calls, FakeOrder(make_task), steps=range(6, 6), staleness=1, published=published))
    assert calls == [("load", 4), ("load", 5)]


def test_the_step_that_was_yielded_last_is_complete_and_nothing_goes_on(make_task: Callable[..., Task]) -> None:
    calls: list[Any] = []

    async def run() -> list[Any]:
        done = await collect(calls, FakeOrder(make_task), steps=range(1, 100), stop_after=2, staleness=3)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return done

    assert [report.step for report, _ in asyncio.run(run())] == [1, 2]
    assert calls[-1] == ("load", 2)


def test_a_failing_part_ends_the_training(make_task: Callable[..., Task]) -> None:
    class FakeBrokenSampler(FakeSampler):
        async def load(self, publication: Publication) -> Sync:
            raise SampleError("the sampler is gone")

    async def run() -> None:
        calls: list[Any] = []
        batcher = Batcher(
            sampler=FakeBrokenSampler(calls),
            panel=FakePanel(calls),
            order=FakeOrder(make_task),
            completions_per_prompt=2,
            temperature=1.0,
        )
        async for _ in train(batcher, FakeLearner(calls), steps=range(1, 3)):
            raise AssertionError("a step that was not synced was reported")

    with pytest.raises(SampleError, match="the sampler is gone"):
        asyncio.run(run())


def test_groups_that_teach_nothing_are_replaced(make_task: Callable[..., Task]) -> None:
    calls: list[Any] = []
    order = FakeOrder(make_task, names=("dull", "b"), others=["dull too", "c", "d"])
    [(report, batch)] = asyncio.run(collect(calls, order, steps=range(1, 2), refill_rounds=4))
    assert [group.task.id for group in batch.groups] == ["1b", "c"]
    assert [group.task.id for group in batch.put_aside] == ["1dull", "dull too"]
    assert [(call[2], call[5]) for call in calls if call[0] == "sample"] == [
        (["1dull", "1b"], "train"),
        (["dull too"], "train, refill 1"),
        (["c"], "train, refill 2"),
    ]
    assert report.metrics["groups/informative_share"] == 0.5  # of the four that were sampled
    assert report.metrics["groups/trained_informative_share"] == 1.0
    assert (report.metrics["groups/put_aside"], report.metrics["groups/refill_rounds"]) == (2.0, 2.0)
    # Rewards are those of all that was sampled: two groups of (1, 0, none) and two of three quarters each.
    assert report.metrics["reward/mean"] == pytest.approx((2 * 1 + 6 * 0.25) / 10)
    assert report.drops == {"correct: grader error": 2}


@pytest.mark.parametrize(("others", "rounds"), [(["dull 1", "dull 2", "dull 3"], 2), ([], 1)])
def test_refilling_is_bounded_and_a_step_keeps_its_size(
    others: list[str], rounds: int, make_task: Callable[..., Task]
) -> None:
    order = FakeOrder(make_task, names=("dull", "b"), others=others)
    [(report, batch)] = asyncio.run(collect([], order, steps=range(1, 2), refill_rounds=2))
    assert [group.task.id for group in batch.groups] == ["1b", "1dull"]
    assert [group.task.id for group in batch.put_aside] == others[:2]
    assert report.metrics["groups/refill_rounds"] == rounds
    assert report.metrics["groups/trained_informative_share"] == 0.5
