"""The tasks of a mixture by step: shares, counts, and epochs of each family."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from types import SimpleNamespace

import pytest

from rft.data.mixture import Family, FixedShares, MixedTasks, family_shares
from rft.types import Task

MakeTask = Callable[..., Task]


def mixed(
    make_task: MakeTask, sizes: dict[str, int], shares: dict[str, float], per_step: int, seed: int = 0
) -> MixedTasks:
    tasks = [
        replace(make_task(f"{name}/{number}"), family=name) for name, size in sizes.items() for number in range(size)
    ]
    return MixedTasks(tasks, FixedShares(shares), prompts_per_step=per_step, seed=seed)


@pytest.mark.parametrize(
    ("families", "options", "expected"),
    [
        ({"a": Family(num_tasks=900), "b": Family(num_tasks=100)}, {}, {"a": 0.9, "b": 0.1}),
        # The square roots are 30 and 10.
        ({"a": Family(num_tasks=900), "b": Family(num_tasks=100)}, {"temperature": 2.0}, {"a": 0.75, "b": 0.25}),
        ({"a": Family(num_tasks=900, cap=300), "b": Family(num_tasks=100)}, {}, {"a": 0.75, "b": 0.25}),
        ({"a": Family(num_tasks=900, weight=1), "b": Family(num_tasks=100, weight=4)}, {}, {"a": 0.2, "b": 0.8}),
        (
            {
                "new": Family(num_tasks=50),
                "b": Family(num_tasks=300, older=True),
                "c": Family(num_tasks=100, older=True),
            },
            {"replay": 0.2},
            {"new": 0.8, "b": 0.15, "c": 0.05},
        ),
    ],
)
def test_shares(families: dict[str, Family], options: dict[str, float], expected: dict[str, float]) -> None:
    assert family_shares(families, **options) == pytest.approx(expected)


def test_a_step_has_each_share_rounded_and_all_steps_have_it_on_average(make_task: MakeTask) -> None:
    order = mixed(make_task, {"a": 50, "b": 50, "c": 50}, {"a": 0.5, "b": 0.4, "c": 0.1}, per_step=4)
    assert order.most_per_step == {"a": 2, "b": 2, "c": 1}
    steps = [Counter(task.family for task in order.of_step(step)) for step in range(1, 1001)]
    assert {(counts["a"], counts["b"] in (1, 2), counts["c"] in (0, 1)) for counts in steps} == {(2, True, True)}
    # b has 1 or 2 of 4 with the mean 1.6, so the mean of 1000 steps has the standard deviation 0.015.
    assert sum(counts["b"] for counts in steps) / 1000 == pytest.approx(1.6, abs=0.05)


@pytest.mark.parametrize("sizes", [{"a": 3, "b": 100}, {"a": 4, "b": 9}, {"a": 5, "b": 5}, {"a": 17, "b": 6}])
def test_each_epoch_of_a_family_has_each_task_once_and_no_step_has_a_task_twice(
    make_task: MakeTask, sizes: dict[str, int]
) -> None:
    order = mixed(make_task, sizes, {"a": 0.35, "b": 0.65}, per_step=7)  # up to 3 and 5
    steps = [[task.id for task in order.of_step(step)] for step in range(1, 201)]
    assert all(len(set(step)) == 7 for step in steps)
    for name, size in sizes.items():
        drawn = [task for step in steps for task in step if task.startswith(f"{name}/")]
        epochs = [drawn[first : first + size] for first in range(0, len(drawn) - size, size)]
        assert {len(set(epoch)) for epoch in epochs} == {size}
        if size > order.most_per_step[name]:  # otherwise, only one order has no repetition
            assert len(set(map(tuple, epochs))) > 1


def test_the_draw_of_a_step_does_not_depend_on_earlier_calls(make_task: MakeTask) -> None:
    sizes, shares = {"a": 6, "b": 40}, {"a": 0.45, "b": 0.55}
    whole = mixed(make_task, sizes, shares, per_step=8)
    in_order = [whole.of_step(step) for step in range(1, 61)]
    for step in (60, 31, 17, 1):
        assert mixed(make_task, sizes, shares, per_step=8).of_step(step) == in_order[step - 1]  # a resumed run
        assert whole.of_step(step) == in_order[step - 1]  # a learner that repeats steps
    assert mixed(make_task, sizes, shares, per_step=8, seed=1).of_step(1) != in_order[0]


def test_other_tasks_for_a_step_come_from_all_families_with_free_tasks(make_task: MakeTask) -> None:
    order = mixed(make_task, {"a": 40, "b": 3}, {"a": 0.5, "b": 0.5}, per_step=4)
    taken = {task.id for task in order.of_step(1)}
    more = order.refill(1, 1, count=20, taken=taken)
    assert len({task.id for task in more} | taken) == 24
    assert Counter(task.family for task in more) == {"a": 19, "b": 1}  # b has 3 tasks, of which 2 are taken
    assert more == order.refill(1, 1, count=20, taken=taken)
    assert more != order.refill(1, 2, count=20, taken=taken)
    assert len(order.refill(1, 1, count=99, taken=taken)) == 43 - 4


def test_refills_follow_the_shares(make_task: MakeTask) -> None:
    order = mixed(make_task, {"a": 500, "b": 500}, {"a": 0.8, "b": 0.2}, per_step=5)
    drawn = Counter(task.family for step in range(1, 201) for task in order.refill(step, 1, count=5, taken=()))
    assert drawn["a"] / 1000 == pytest.approx(0.8, abs=0.05)  # standard deviation 0.013


def test_places_of_systematic_sampling(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the offset 0.3, the places are 0.3, 1.3, 2.3 and 3.3 of 4; the families end at 1.2, 2.4 and 4."""
    monkeypatch.setattr("rft.data.mixture.random", SimpleNamespace(Random=lambda seed: FixedDraw(0.3)))
    order = mixed(make_task, {"a": 9, "b": 9, "c": 9}, {"a": 0.3, "b": 0.3, "c": 0.4}, per_step=4)
    ends = list(accumulate([1.2, 1.2, 1.6]))
    by_hand = [sum(place + 0.3 < end for place in range(4)) for end in (0, *ends)]
    assert by_hand == [0, 1, 3, 4]
    expected = {name: b - a for name, (a, b) in zip("abc", itertools.pairwise(by_hand), strict=True)}
    assert Counter(task.family for task in order.of_step(1)) == expected


class FixedDraw:
    """Random numbers that are all equal."""

    def __init__(self, number: float) -> None:
        self.number = number

    def random(self) -> float:
        return self.number


def test_the_draws_are_the_same_for_ever(make_task: MakeTask) -> None:
    """A change here would break every resume of a run that an older version began."""
    # `random.Random("0 <step> mixture").random()` is 0.03, 0.81, 0.71 and 0.89, and a ends at 1.2, so a has 2, 1, 1
    # and 1 of the places. Sorted by `random.Random("0 a <epoch>").random()`, the epochs of a are 2 0 1 and 2 1 0, those
    # of b 2 0 3 1 and 3 1 0 2.
    order = mixed(make_task, {"a": 3, "b": 4}, {"a": 0.4, "b": 0.6}, per_step=3)
    assert [[task.id for task in order.of_step(step)] for step in (1, 2, 3, 4)] == [
        ["a/2", "a/0", "b/2"],
        ["a/1", "b/0", "b/3"],
        ["a/2", "b/1", "b/3"],
        ["a/1", "b/1", "b/0"],
    ]
