"""What the panel does with a grader's keys: retries, its own concurrency, its range; and what it counts."""

import asyncio
import math
import threading

import pytest

from rft.grading import Score, Status
from rft.grading.panel import Panel
from rft.waiting import current_wait

from .test_panel import SAFETY_S, grade, grade_one, grader, rollout, stream, task


def flaky(faults):
    """A grader that fails so often before it gives 1, by task."""
    left = {}

    async def failing(task, completion):
        left[task.id] = left.get(task.id, faults) - 1
        if left[task.id] >= 0:
            raise ConnectionError("503")
        return 1.0

    return failing


@pytest.fixture
def pauses(monkeypatch):
    """The pauses before retries, which are not waited for."""
    seen = []
    sleep = asyncio.sleep

    async def at_once(seconds):
        if threading.current_thread() is not threading.main_thread():  # a server's own affairs
            return await sleep(seconds)
        seen.append((seconds, current_wait().what))
        await sleep(0)

    monkeypatch.setattr("rft.grading.panel.asyncio.sleep", at_once)
    return seen


@pytest.mark.parametrize(
    ("faults", "retries", "reward", "calls"), [(0, 2, 1.0, 1), (1, 2, 1.0, 2), (2, 2, 1.0, 3), (3, 2, None, 3)]
)
def test_a_call_that_failed_is_made_again(pauses, faults, retries, reward, calls):
    async def main():
        panel = Panel([grader(flaky(faults), retries=retries)], max_fault_share=1.0)
        (group,) = await panel.grade([task("a")], stream(rollout("a", 0)), rollouts_per_task=1)
        return group.rewards[0], panel.counters["g"]

    found, counters = asyncio.run(main())
    assert (found, counters.calls, counters.retries) == (reward, calls, calls - 1)
    assert counters.faults == ({} if reward else {Status.GRADER_ERROR: 1})
    for number, (seconds, what) in enumerate(pauses):
        assert 0.25 * 2**number <= seconds <= 0.5 * 2**number
        assert what == "a retry of grader 'g' on task a"


def test_an_answer_that_is_wrong_is_not_asked_for_again(pauses):
    asked = []

    async def strict(completion):
        asked.append(completion)
        return Score(value=0.0, status=Status.INVALID_OUTPUT)

    assert grade_one(grader(strict, retries=5)).reward == 0.0
    assert (asked, pauses) == (["1"], [])


def test_a_graders_own_concurrency():
    running = {"a": 0, "b": 0}
    most = dict(running)

    def counting(name):
        async def call(completion):
            running[name] += 1
            most[name] = max(most[name], running[name])
            for _ in range(3):
                await asyncio.sleep(0)
            running[name] -= 1
            return 1

        return call

    graders = [grader(counting("a"), name="a", max_concurrency=2), grader(counting("b"), name="b")]
    grade(graders, stream(*(rollout("a", index) for index in range(20))), size=20, max_concurrency=8)
    assert most["a"] == 2
    assert 2 < most["b"] <= 8


@pytest.mark.parametrize(
    ("value", "clip", "reward", "reason"),
    [
        (0.0, False, 0.0, None),
        (1.0, False, 1.0, None),
        (
            1.5,
            False,
            None,
            "returned 1.5, which is outside its range [0, 1]; correct the grader or its range, or set clip",
        ),
        (-1e9, False, None, "returned -1e+09, which is outside its range [0, 1]"),
        (1.5, True, 1.0, "clipped from 1.5"),
        (-0.5, True, 0.0, "clipped from -0.5"),
        (Score(value=2, reason="too good"), True, 1.0, "too good; clipped from 2"),
        (math.inf, True, None, "returned the float inf"),
        (None, True, None, None),
    ],
)
def test_a_declared_range(value, clip, reward, reason):
    graded = grade_one(grader(lambda: value, range=(0.0, 1.0), clip=clip))
    assert graded.reward == reward
    assert (graded.scores["g"].reason or "").startswith(reason or "")
    assert (graded.scores["g"].reason is None) == (reason is None)


def test_what_the_graders_did_is_counted():
    async def main():
        panel = Panel([grader(lambda rollout: [1, 0.5, None, "x"][rollout.index])], max_fault_share=1.0)
        await panel.grade([task("a")], stream(*(rollout("a", index) for index in range(4))), rollouts_per_task=4)
        return panel

    panel = asyncio.run(main())
    counters = panel.counters["g"]
    assert (counters.calls, counters.cache_hits, counters.retries, panel.workers_replaced) == (4, 0, 0, 0)
    assert counters.statuses == {Status.OK: 2, Status.SKIPPED: 1, Status.GRADER_ERROR: 1}
    assert counters.faults == {Status.GRADER_ERROR: 1}
    assert 0 < counters.seconds < SAFETY_S
