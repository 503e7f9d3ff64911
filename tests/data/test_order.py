"""The order of tasks."""

from collections import Counter
from collections.abc import Callable

import pytest

from rft.data import order
from rft.data.order import ShuffledTasks, task_indices
from rft.types import Task


def stream(num_tasks: int, prompts_per_step: int, steps: int, seed: int = 0) -> list[list[int]]:
    return [task_indices(num_tasks, prompts_per_step, seed=seed, step=step) for step in range(1, steps + 1)]


SHAPES = [(1, 1), (5, 1), (4, 4), (6, 4), (5, 4), (7, 4), (10, 3), (100, 8), (13, 12), (3, 4), (2, 7), (1, 3)]


@pytest.mark.parametrize(("num_tasks", "prompts_per_step"), SHAPES)
def test_each_epoch_has_each_task_once(num_tasks: int, prompts_per_step: int) -> None:
    epochs = 30
    steps = -(-epochs * num_tasks // prompts_per_step)
    places = [index for indices in stream(num_tasks, prompts_per_step, steps) for index in indices]
    for epoch in range(epochs):
        assert sorted(places[epoch * num_tasks : (epoch + 1) * num_tasks]) == list(range(num_tasks))


@pytest.mark.parametrize(("num_tasks", "prompts_per_step"), SHAPES)
def test_no_task_comes_twice_in_a_step_while_there_are_enough(num_tasks: int, prompts_per_step: int) -> None:
    for indices in stream(num_tasks, prompts_per_step, 60):
        assert len(indices) == prompts_per_step
        assert len(set(indices)) == min(num_tasks, prompts_per_step)


def test_a_step_needs_no_step_before_it() -> None:
    in_order = stream(7, 4, 40)
    for step in reversed(range(1, 41)):
        order._epoch.cache_clear()
        assert task_indices(7, 4, seed=0, step=step) == in_order[step - 1]


def test_epochs_and_seeds_differ_and_places_are_even() -> None:
    first, second = stream(20, 20, 2)
    assert first != second
    assert first != task_indices(20, 20, seed=1, step=1)
    # 5 tasks, 4 a step: 2000 epochs, so each task begins an epoch about 400 times (standard deviation 18).
    places = [index for indices in stream(5, 4, 2500) for index in indices]
    assert all(300 < count < 500 for count in Counter(places[::5]).values())


def test_the_order_is_the_same_for_ever() -> None:
    """A change here would break every resume of a run that an older version began."""
    # Sorted by `random.Random("0 <epoch>").random()` the epochs are 3 0 4 1 2, 0 1 3 2 4 and 0 4 2 1 3. The second
    # step has 1 2 of the first epoch and may take 0; the fourth has 4 of the second and takes 0 2, as 4 must wait.
    assert stream(5, 3, 4) == [[3, 0, 4], [1, 2, 0], [1, 3, 2], [4, 0, 2]]


@pytest.mark.parametrize(("num_tasks", "prompts_per_step"), [(17, 8), (16, 8), (15, 8), (9, 8), (23, 7)])
def test_an_epoch_follows_from_all_before_it(num_tasks: int, prompts_per_step: int) -> None:
    """Epoch by epoch from the very first, as the definition has it."""
    before: list[int] = []
    for epoch in range(40):
        given = epoch * num_tasks % prompts_per_step
        tail = before[-given:] if given else []
        shuffled = order._shuffled(num_tasks, 3, epoch)
        first = [task for task in shuffled if task not in tail][: prompts_per_step - given] if tail else []
        before = first + [task for task in shuffled if task not in first]
        assert order._epoch(num_tasks, prompts_per_step, 3, epoch) == tuple(before)
        order._epoch.cache_clear()


@pytest.mark.parametrize(("num_tasks", "epochs"), [(1000, 400), (600, 400)])
def test_a_late_epoch_costs_no_more_than_an_early_one(
    monkeypatch: pytest.MonkeyPatch, num_tasks: int, epochs: int
) -> None:
    shuffles: list[int] = []
    original = order._shuffled

    def counted(num_tasks: int, seed: int, epoch: int) -> list[int]:
        shuffles.append(epoch)
        return original(num_tasks, seed, epoch)

    monkeypatch.setattr(order, "_shuffled", counted)
    order._epoch.cache_clear()
    order._newest_of_few.cache_clear()
    steps = epochs * num_tasks // 499
    stream(num_tasks, 499, steps, seed=11)
    assert len(shuffles) <= 2 * epochs


def test_other_tasks_for_a_step_are_drawn_from_those_not_taken(make_task: Callable[..., Task]) -> None:
    tasks = ShuffledTasks([make_task(str(number)) for number in range(10)], prompts_per_step=4, seed=0)
    taken = {task.id for task in tasks.of_step(1)}
    more = [task.id for task in tasks.refill(1, 1, count=4, taken=taken)]
    assert len(set(more)) == 4
    assert not taken & set(more)
    assert more == [task.id for task in tasks.refill(1, 1, count=4, taken=taken)]
    assert more != [task.id for task in tasks.refill(1, 2, count=4, taken=taken)]
    assert len(tasks.refill(1, 1, count=99, taken=taken)) == 6
