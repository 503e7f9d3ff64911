"""The tasks of a mixture by step: how many of each family, and which, as a pure function of seed and step.

The share of a family follows from its number of training tasks or from its weight. A step draws its families by
systematic sampling: P places at equal distances, shifted by a random offset, select from the shares, which lie side by
side. A family with share p therefore has P x p tasks in each step, rounded down or up, and exactly P x p on average.
Within a family, epochs follow each other. Each epoch contains every task once.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Protocol

from rft.types import Task

UNITS = 2**32
"""Parts of the distance between two places. Whole numbers of them make the counts of a step exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What the share of a family depends on.

    Example:
        Family(num_tasks=2000, cap=500)
    """

    num_tasks: int
    """Number of training tasks."""
    weight: float | None = None
    """Weight relative to the other families; None takes n^(1/T)."""
    cap: int | None = None
    """Largest n of n^(1/T)."""
    older: bool = False
    """Whether the tasks are those of an earlier stage."""


def family_shares(families: Mapping[str, Family], *, temperature: float = 1.0, replay: float = 0.0) -> dict[str, float]:
    """Return the share of each family in the training tasks of a step.

    The shares are proportional to n^(1/T) for n = min(tasks, cap), as in T5 (arXiv 1910.10683, section 3.5.2), or to
    the weights. Older families share `replay`, and all others share the rest.

    Args:
        families: The trained families. Some are not older; if `replay` is above 0, others are.
        temperature: T.
        replay: Share of the older families together.
    """

    def shares(*, older: bool, total: float) -> dict[str, float]:
        sizes = {
            name: family.weight or min(family.num_tasks, family.cap or family.num_tasks) ** (1 / temperature)
            for name, family in families.items()
            if family.older is older
        }
        return {name: total * size / sum(sizes.values()) for name, size in sizes.items()}

    return shares(older=False, total=1 - replay) | (shares(older=True, total=replay) if replay else {})


class Shares(Protocol):
    """Shares of the families by step."""

    @property
    def largest(self) -> Mapping[str, float]:
        """Largest share of each family in any step."""

    def of_step(self, step: int) -> Mapping[str, float]:
        """Return the share of each family in a step; they sum to 1."""


@dataclass(frozen=True, slots=True)
class FixedShares:
    """The same shares in every step.

    Example:
        FixedShares({"sums": 0.75, "gcd": 0.25})
    """

    largest: Mapping[str, float]
    """The share of each family."""

    def of_step(self, step: int) -> Mapping[str, float]:
        """Return the shares."""
        return self.largest


class MixedTasks:
    """The training tasks of a mixture in the order in which steps sample them.

    Args:
        tasks: The training tasks of all families.
        shares: Share of each family in a step.
        prompts_per_step: Number of tasks per step.
        seed: Determines the draws.

    Example:
        MixedTasks(tasks, FixedShares({"sums": 0.75, "gcd": 0.25}), prompts_per_step=8, seed=0).of_step(1)
    """

    def __init__(self, tasks: Sequence[Task], shares: Shares, *, prompts_per_step: int, seed: int) -> None:
        self.tasks = tasks
        self._shares = shares
        self._prompts_per_step = prompts_per_step
        self._seed = seed
        self._families = {name: [task for task in tasks if task.family == name] for name in shares.largest}
        self._epochs = {
            name: _Epochs(len(self._families[name]), most, seed=f"{seed} {name}")
            for name, most in self.most_per_step.items()
        }
        self._drawn = [[0] * len(self._families)]
        """Tasks of each family in the first 0, 1, 2, ... steps."""

    @property
    def most_per_step(self) -> dict[str, int]:
        """Largest number of tasks of each family in a step."""
        units = self._units(self._shares.largest)
        return {name: -(-number // UNITS) for name, number in zip(self._families, units, strict=True)}

    def of_step(self, step: int) -> list[Task]:
        """Return the tasks of a step, family by family."""
        while len(self._drawn) < step:
            drawn = self._drawn[-1]
            self._drawn.append([sum(pair) for pair in zip(drawn, self._counts(len(self._drawn)), strict=True)])
        return [
            self._families[name][index]
            for name, first, count in zip(self._families, self._drawn[step - 1], self._counts(step), strict=True)
            for index in self._epochs[name].indices(first, count)
        ]

    def refill(self, step: int, round: int, *, count: int, taken: Collection[str]) -> list[Task]:
        """Draw up to `count` other tasks for a step, excluding the ids in `taken`; each round has its own draw."""
        draws = random.Random(f"{self._seed} {step} refill {round}")
        free = {name: [task for task in tasks if task.id not in taken] for name, tasks in self._families.items()}
        shares = self._shares.of_step(step)
        more: list[Task] = []
        while len(more) < count and any(free.values()):
            left = {name: shares[name] for name, tasks in free.items() if tasks}
            tasks = free[_chosen(left, draws.random())]
            more.append(tasks.pop(int(draws.random() * len(tasks))))
        return more

    def _counts(self, step: int) -> list[int]:
        """Return the number of tasks of each family in a step."""
        offset = int(random.Random(f"{self._seed} {step} mixture").random() * UNITS)
        ends = accumulate(self._units(self._shares.of_step(step)), initial=0)
        # Place j = 0, 1, ... is at j * UNITS + offset; so many places lie before an end.
        before = [-((offset - end) // UNITS) for end in ends]
        return [end - start for start, end in pairwise(before)]

    def _units(self, shares: Mapping[str, float]) -> list[int]:
        """Return the length of each share in units, which add up to all places of a step if the shares add up to 1."""
        of_families = accumulate(shares[name] for name in self._families)
        ends = [round(end * self._prompts_per_step * UNITS) for end in of_families]
        return [end - start for start, end in pairwise((0, *ends))]


def _chosen(shares: Mapping[str, float], draw: float) -> str:
    """Return the family at a point between 0 and 1 of the shares, which lie side by side."""
    point, *_, last = draw * sum(shares.values()), *shares
    for name, end in zip(shares, accumulate(shares.values()), strict=True):
        if point < end:
            return name
    return last  # rounding


class _Epochs:
    """The endless sequence of a family's tasks: epoch after epoch, each with every task once.

    Args:
        num_tasks: Number of tasks, at least `longest`.
        longest: No task occurs twice within this number of consecutive places.
        seed: Determines the order of each epoch.
    """

    def __init__(self, num_tasks: int, longest: int, *, seed: str) -> None:
        self._num_tasks = num_tasks
        self._longest = longest
        self._seed = seed
        self._number, self._order = 0, self._shuffled(0)

    def indices(self, first: int, count: int) -> list[int]:
        """Return the `count` tasks from place `first`, both counted from 0."""
        places = (divmod(place, self._num_tasks) for place in range(first, first + count))
        return [self._epoch(number)[place] for number, place in places]

    def _epoch(self, number: int) -> list[int]:
        """Return the order of an epoch.

        An epoch depends on the last `longest - 1` places of the one before, and `_following` moves only tasks among its
        first `longest` places. With enough tasks, the dependence therefore ends there. With fewer, it goes back to the
        first epoch.
        """
        if number == self._number:
            return self._order
        if self._num_tasks >= 2 * self._longest - 1:
            begin, order = max(number - 1, 0), self._shuffled(max(number - 1, 0))
        elif number > self._number:
            begin, order = self._number, self._order
        else:
            begin, order = 0, self._shuffled(0)
        for later in range(begin + 1, number + 1):
            order = self._following(order, self._shuffled(later))
        self._number, self._order = number, order
        return order

    def _following(self, before: Sequence[int], order: list[int]) -> list[int]:
        """Move tasks of an epoch back that the end of the epoch before has had too recently."""
        head = []
        for distance in range(self._longest - 1, 0, -1):
            recent = set(before[-distance:])
            head.append(order.pop(next(place for place, task in enumerate(order) if task not in recent)))
        return head + order

    def _shuffled(self, number: int) -> list[int]:
        # Sorted by draws, because Python guarantees the sequence of `random()` for a seed, but not that of `shuffle`.
        draws = random.Random(f"{self._seed} {number}")
        return sorted(range(self._num_tasks), key=[draws.random() for _ in range(self._num_tasks)].__getitem__)
