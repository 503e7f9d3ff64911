"""The order of tasks: a pure function of seed and step, so that a resumed run neither skips nor repeats a task."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rft.types import Task


@dataclass(frozen=True, slots=True)
class ShuffledTasks:
    """The training tasks in the order in which steps sample them.

    Example:
        ShuffledTasks(tasks, prompts_per_step=8, seed=0).of_step(1)
    """

    tasks: Sequence[Task]
    """The training tasks."""
    prompts_per_step: int
    """Number of tasks per step."""
    seed: int
    """Determines the order."""

    def of_step(self, step: int) -> list[Task]:
        """Return the tasks of a step, according to `task_indices`."""
        return [
            self.tasks[index]
            for index in task_indices(len(self.tasks), self.prompts_per_step, seed=self.seed, step=step)
        ]

    def refill(self, step: int, round: int, *, count: int, taken: Collection[str]) -> list[Task]:
        """Draw up to `count` other tasks for a step, excluding the ids in `taken`; each round has its own draw."""
        draws = random.Random(f"{self.seed} {step} refill {round}")
        free = [task for task in self.tasks if task.id not in taken]
        # `random()` yields the same numbers in all Python versions.
        return [free.pop(int(draws.random() * len(free))) for _ in range(min(count, len(free)))]


def task_indices(num_tasks: int, prompts_per_step: int, *, seed: int, step: int) -> list[int]:
    """Return the indices of the tasks of a step.

    Successive steps run through successive epochs. Each epoch contains every task exactly once, in its own order. A
    step may cross the end of an epoch. No task occurs twice in a step, unless there are fewer tasks than
    `prompts_per_step`.

    Args:
        num_tasks: Number of tasks, at least 1.
        prompts_per_step: Number of tasks per step, at least 1.
        seed: Determines the order of each epoch.
        step: Number of the step, from 1.

    Returns:
        `[prompts_per_step]` indices from 0 to `num_tasks - 1`.
    """
    first = (step - 1) * prompts_per_step
    places = (divmod(place, num_tasks) for place in range(first, first + prompts_per_step))
    return [_epoch(num_tasks, prompts_per_step, seed, epoch)[place] for epoch, place in places]


@lru_cache(maxsize=4)
def _epoch(num_tasks: int, prompts_per_step: int, seed: int, epoch: int) -> tuple[int, ...]:
    """Return the order of one epoch, `[num_tasks]`.

    The order depends on the previous epoch if a step crosses from that epoch into this one. Only the last tasks of the
    previous epoch matter, and only the first `prompts_per_step` tasks of an epoch are ever reordered. With enough
    tasks, the dependence therefore ends there. With fewer tasks, it goes back to the last epoch that began with a step.
    """
    if num_tasks >= 2 * prompts_per_step:
        begin, known = max(epoch - 1, 0), {}
    else:
        period = prompts_per_step // math.gcd(num_tasks, prompts_per_step)
        first, known = epoch - epoch % period, _newest_of_few(num_tasks, prompts_per_step, seed)
        begin = next((number for number in known if first <= number <= epoch), first)
    order: Sequence[int] = known.get(begin) or _shuffled(num_tasks, seed, begin)
    for number in range(begin + 1, epoch + 1):
        given = number * num_tasks % prompts_per_step  # tasks of the previous epoch in the crossing step
        tail = order[-given:] if given else []
        order = _following(tail, _shuffled(num_tasks, seed, number), num_first=prompts_per_step - given)
    known.clear()
    known[epoch] = tuple(order)
    return known[epoch]


@lru_cache(maxsize=4)
def _newest_of_few(num_tasks: int, prompts_per_step: int, seed: int) -> dict[int, tuple[int, ...]]:
    """Return the latest computed epoch, by number. The next epoch continues from it."""
    return {}


def _following(tail: Sequence[int], order: list[int], *, num_first: int) -> list[int]:
    """Reorder an epoch so that its first tasks, where possible, are not in the tail of the previous epoch."""
    if not tail:
        return order
    taken = set(tail)
    first = [task for task in order if task not in taken][:num_first]
    placed = set(first)
    return first + [task for task in order if task not in placed]


def _shuffled(num_tasks: int, seed: int, epoch: int) -> list[int]:
    # Sorted by draws, because Python guarantees the sequence of `random()` for a seed, but not that of `shuffle`.
    draws = random.Random(f"{seed} {epoch}")
    return sorted(range(num_tasks), key=[draws.random() for _ in range(num_tasks)].__getitem__)
