"""Held-out measurements: the mean of each task, then the mean over tasks."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rft.config.evaluation import EvaluationConfig
from rft.errors import GradeError
from rft.metrics.families import family_results, family_rows
from rft.metrics.held_out import caveats, metric_bounds, metric_values
from rft.metrics.intervals import Estimate, estimate, paired_difference
from rft.run.evaluation import Evaluation, evaluate
from rft.run_folder.recorded_scores import recorded_by_task
from rft.run_folder.recorder import Recorder, read_rollouts
from rft.types import Adapter, Grade, GradedGroup, Policy, Rollout, Score, Status, Task

POLICY = Policy(version=2, fingerprint="f2")


class FakeSampler:
    """Remembers how it was asked."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    async def sample(self, tasks: Sequence[Task], **asked: Any) -> AsyncIterator[Rollout]:
        self.asked = asked
        return
        yield

    async def load(self, adapter: Adapter) -> Policy:
        return adapter.policy


class FakePanel:
    """Returns groups that were made before."""

    def __init__(self, groups: list[GradedGroup]) -> None:
        self.groups = groups

    async def grade(
        self, tasks: Sequence[Task], rollouts: AsyncIterable[Rollout], *, rollouts_per_task: int
    ) -> list[GradedGroup]:
        async for _ in rollouts:
            pass
        return self.groups


def measure(groups: list[GradedGroup], *, metric: str = "reward", sampler: FakeSampler | None = None) -> Evaluation:
    return asyncio.run(
        evaluate(
            sampler or FakeSampler(),
            FakePanel(groups),
            [group.task for group in groups],
            policy=POLICY,
            how=EvaluationConfig(metric=metric, completions_per_task=2, temperature=0.5),
            graders={"g": {"use": "exact"}, "h": {"use": "exact", "weight": 0}},
        )
    )


def test_each_task_counts_once(make_group: Callable[..., GradedGroup]) -> None:
    groups = [make_group([1.0, 0.0], "a"), make_group([1.0, None], "b"), make_group([None, None], "c")]
    sampler = FakeSampler()
    result = measure(groups, sampler=sampler)
    assert result.by_task == {"a": 0.5, "b": 1.0}
    assert (result.estimate.mean, result.estimate.n) == (0.75, 2)
    assert (result.policy, result.metric) == (POLICY, "reward")
    assert [group.task.id for group in result.groups] == ["a", "b", "c"]
    # Whatever the policy, the same random numbers: neither its version nor the step is among these.
    assert sampler.asked == {"completions_per_task": 2, "temperature": 0.5, "purpose": "held-out", "step": 0}


def test_nothing_graded_is_an_error_that_says_why(make_group: Callable[..., GradedGroup]) -> None:
    with pytest.raises(GradeError, match=r"none of the 1 held-out tasks could be graded with reward: \{'g: skipped'"):
        measure([make_group([None, None])])


def test_one_grader_as_the_metric(make_group: Callable[..., GradedGroup]) -> None:
    group = make_group([1.0, 0.0], "a")
    grades = (
        Grade(scores={"g": Score(value=1.0), "h": Score(value=0.25)}, reward=1.0),
        Grade(scores={"g": Score(value=0.0), "h": Score(value=None, status=Status.TIMEOUT)}, reward=0.0),
    )
    group = GradedGroup(task=group.task, rollouts=group.rollouts, grades=grades)
    assert metric_values(group, "reward") == [1.0, 0.0]
    assert metric_values(group, "h") == [0.25]
    assert measure([group], metric="h").by_task == {"a": 0.25}


@pytest.mark.parametrize("metric", ["reward", "g"])
def test_the_recorded_lines_say_the_same(make_group: Callable[..., GradedGroup], tmp_path: Path, metric: str) -> None:
    groups = [make_group([1.0, 0.0], "a"), make_group([0.1, None], "b"), make_group([None, None], "c")]
    result = measure(groups, metric=metric)
    Recorder(tmp_path).rollouts(result.groups, step=0, phase="before")
    assert recorded_by_task(read_rollouts(tmp_path, "before"), metric) == result.by_task
    assert recorded_by_task([], metric) == {}
    assert json.dumps(result.by_task)


def test_bounds_of_the_reward_add_up_and_those_of_a_grader_are_its_own() -> None:
    graders = {
        "correct": {"use": "exact"},
        "style": {"use": "a.py:b", "weight": 0.5, "range": [-1, 1]},
        "length": {"use": "a.py:c", "weight": -0.2},
    }
    assert metric_bounds(graders, "reward") == pytest.approx((-0.5 - 0.2, 1.0 + 0.5))
    assert metric_bounds(graders, "style") == (-1.0, 1.0)
    assert metric_bounds(graders, "length") == (0.0, 1.0)


def test_caveats_name_the_row_that_they_belong_to() -> None:
    doubted = Estimate(mean=0.1, ci95=(0.0, 0.4), n=20, caveat="few").to_json()
    sound = Estimate(mean=0.1, ci95=(0.0, 0.2), n=20).to_json()
    assert caveats({"before": sound, "after": None, "difference": doubted, "metric": "reward"}) == {
        "after - before": "few"
    }


def test_each_family_has_its_own_estimate_and_bounds(make_group: Callable[..., GradedGroup]) -> None:
    rewards = {"sums/a": [1.0, 0.0], "sums/b": [1.0, 1.0], "essays/a": [-0.5, -0.5], "essays/b": [None, None]}
    groups = [
        dataclasses.replace(group, task=dataclasses.replace(group.task, family=name.partition("/")[0]))
        for name, group in ((name, make_group(values, name)) for name, values in rewards.items())
    ]
    graders = {"correct": {"use": "exact"}, "style": {"use": "a.py:b", "weight": 0.5, "range": [-1, 1]}}
    families = {"sums": ["correct"], "essays": ["style"], "unmeasured": ["style"]}
    result = asyncio.run(
        evaluate(
            FakeSampler(),
            FakePanel(groups),
            [group.task for group in groups],
            policy=POLICY,
            how=EvaluationConfig(completions_per_task=2),
            graders=graders,
            families=families,
        )
    )
    assert {name: (value.mean, value.n) for name, value in result.families.items()} == {
        "sums": (0.75, 2),
        "essays": (-0.5, 1),
    }
    metrics = result.to_metrics("eval")
    assert metrics["eval/mean"] == pytest.approx((0.5 + 1.0 - 0.5) / 3)
    assert (metrics["eval/sums/mean"], metrics["eval/essays/mean"]) == (0.75, -0.5)
    # The reward of a family has the bounds of its own graders; that of all tasks lies within the widest.
    assert metric_bounds(graders, "reward", families) == (-0.5, 1.0)
    assert metrics["eval/essays/low"] == -0.5


def test_results_by_family_pair_the_tasks_of_each() -> None:
    before = {"sums/a": 0.0, "sums/b": 1.0, "gcd/a": 1.0, "gcd/b": 1.0}
    after = {"sums/a": 1.0, "sums/b": 1.0, "gcd/a": 0.0, "gcd/b": 1.0}
    families = {"sums": ["correct"], "gcd": ["correct"], "bits": ["correct"]}
    results = family_results(before, after, metric="reward", graders={"correct": {"use": "exact"}}, families=families)
    assert list(results) == ["sums", "gcd"]
    for name, changes in (("sums", {"a": 0.0, "b": 1.0}), ("gcd", {"a": 1.0, "b": 1.0})):
        assert results[name]["before"] == estimate(list(changes.values())).to_json()
    assert results["gcd"]["difference"] == paired_difference({"a": 1.0, "b": 1.0}, {"a": 0.0, "b": 1.0}).to_json()
    assert [row[0] for row in family_rows(results)] == ["sums", "gcd"]
    assert family_rows(results)[1][3].startswith("-0.500 [")
    assert family_rows({"new": {"before": None, "after": results["gcd"]["after"], "difference": None}}) == [
        ("new", "-", family_rows(results)[1][2], "-", "2")
    ]
