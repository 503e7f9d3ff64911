"""The order of the tasks: a pure function of the seed and the step, so that a resume neither skips nor repeats any."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rft.types import Task


@dataclass(frozen=True, slots=True)
class ShuffledTasks:
    """The training tasks in the order in which the steps sample them.

    Example:
        ShuffledTasks(tasks, prompts_per_step=8, seed=0).of_step(1)
    """

    tasks: Sequence[Task]
    """The training tasks."""
    prompts_per_step: int
    """How many of them a step samples."""
    seed: int
    """Decides the order."""

    def of_step(self, step: int) -> list[Task]:
        """The tasks of a step, as `task_indices` has it."""
        return [
            self.tasks[index]
            for index in task_indices(len(self.tasks), self.prompts_per_step, seed=self.seed, step=step)
        ]

    def refill(self, step: int, round: int, *, count: int, taken: Collection[str]) -> list[Task]:
        """Other tasks for a step: up to `count`, none of those whose ids are `taken`, drawn anew for each round."""
        draws = random.Random(f"{self.seed} {step} refill {round}")
        free = [task for task in self.tasks if task.id not in taken]
        # By draws of `random()`, which Python promises to keep the same for ever.
        return [free.pop(int(draws.random() * len(free))) for _ in range(min(count, len(free)))]


def task_indices(num_tasks: int, prompts_per_step: int, *, seed: int, step: int) -> list[int]:
    """Which tasks a step samples.

    The steps, one after the other, run through epoch after epoch; each epoch has every task exactly once, in an order
    of its own. A step may cross the end of an epoch. No task comes twice in a step, unless there are fewer tasks than
    `prompts_per_step`.

    Args:
        num_tasks: How many tasks there are, at least 1.
        prompts_per_step: How many of them a step samples, at least 1.
        seed: Decides the orders.
        step: Number of the step, from 1.

    Returns:
        `[prompts_per_step]` indices from 0 to `num_tasks - 1`.
    """
    first = (step - 1) * prompts_per_step
    places = (divmod(place, num_tasks) for place in range(first, first + prompts_per_step))
    return [_epoch(num_tasks, prompts_per_step, seed, epoch)[place] for epoch, place in places]


@lru_cache(maxsize=4)
def _epoch(num_tasks: int, prompts_per_step: int, seed: int, epoch: int) -> tuple[int, ...]:
    """`[num_tasks]` the order of one epoch.

    It depends on the epoch before when a step crosses from that one into this. There it matters what the last tasks of
    that epoch are, while only the first `prompts_per_step` of an epoch are ever reordered. So with enough tasks the
    dependence ends there; with fewer it goes back to the last epoch that began together with a step.
    """
    if num_tasks >= 2 * prompts_per_step:
        begin, known = max(epoch - 1, 0), {}
    else:
        period = prompts_per_step // math.gcd(num_tasks, prompts_per_step)
        first, known = epoch - epoch % period, _newest_of_few(num_tasks, prompts_per_step, seed)
        begin = next((number for number in known if first <= number <= epoch), first)
    order: Sequence[int] = known.get(begin) or _shuffled(num_tasks, seed, begin)
    for number in range(begin + 1, epoch + 1):
        given = number * num_tasks % prompts_per_step  # tasks that the epoch before gives to the step that crosses over
        tail = order[-given:] if given else []
        order = _following(tail, _shuffled(num_tasks, seed, number), num_first=prompts_per_step - given)
    known.clear()
    known[epoch] = tuple(order)
    return known[epoch]


@lru_cache(maxsize=4)
def _newest_of_few(num_tasks: int, prompts_per_step: int, seed: int) -> dict[int, tuple[int, ...]]:
    """The epoch computed last, by its number: the next one goes on from there."""
    return {}


def _following(tail: Sequence[int], order: list[int], *, num_first: int) -> list[int]:
    """Reorder an epoch so that its first tasks are none of the tail of the epoch before, as far as there are others."""
    if not tail:
        return order
    taken = set(tail)
    first = [task for task in order if task not in taken][:num_first]
    placed = set(first)
    return first + [task for task in order if task not in placed]


def _shuffled(num_tasks: int, seed: int, epoch: int) -> list[int]:
    # Sorted by draws, as Python promises the same `random()` from the same seed for ever, but not the same `shuffle`.
    draws = random.Random(f"{seed} {epoch}")
    return sorted(range(num_tasks), key=[draws.random() for _ in range(num_tasks)].__getitem__)
