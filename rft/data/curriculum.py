"""A curriculum over task families: more of those that teach most at the moment.

After every block of steps, the share of a family is weighted with the share of its groups in that block whose rewards
differed. Such groups teach; those of tasks that are always or never solved do not. A floor keeps every family measured.
The shares of a step depend on recorded metrics alone, and only on those of steps that were complete before the step was
sampled, so a resumed run has the same shares, also with staleness.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

Lines = Sequence[Mapping[str, Any]]
"""Lines of metrics.jsonl."""


class Curriculum:
    """Shares of the families by step.

    Args:
        base: Share of each family without the curriculum.
        fixed: Families that keep their share, such as older ones.
        every_steps: Steps of a block.
        floor: Lowest share of a family, relative to the share of all families of the curriculum.
        staleness: Number of policy versions that the samplers run ahead.
        read: Returns the lines of the complete steps.
    """

    def __init__(
        self,
        base: Mapping[str, float],
        *,
        fixed: frozenset[str] = frozenset(),
        every_steps: int,
        floor: float,
        staleness: int,
        read: Callable[[], Lines],
    ) -> None:
        self._base = base
        self._moving = [name for name in base if name not in fixed]
        self._every_steps = every_steps
        self._floor = floor
        self._staleness = staleness
        self._read = read
        self._of_block: dict[int, Mapping[str, float]] = {0: base}

    @property
    def largest(self) -> Mapping[str, float]:
        """Largest share of each family in any step."""
        highest = self._total * (1 - (len(self._moving) - 1) * self._floor)
        return {name: max(share, highest) if name in self._moving else share for name, share in self._base.items()}

    def of_step(self, step: int) -> Mapping[str, float]:
        """Return the share of each family in a step; they sum to 1."""
        block = max(0, step - 1 - self._staleness) // self._every_steps
        if block not in self._of_block:
            self._of_block[block] = self._weighted(block)
        return self._of_block[block]

    @property
    def _total(self) -> float:
        return sum(self._base[name] for name in self._moving)

    def _weighted(self, block: int) -> Mapping[str, float]:
        """Return the shares after this number of blocks."""
        lines = self._read()
        sizes = {name: self._base[name] * self._weight(lines, name, block) for name in self._moving}
        if not (size := sum(sizes.values())):  # no family teaches anything
            return self._base
        rest = 1 - len(sizes) * self._floor
        return {
            name: self._total * (self._floor + rest * sizes[name] / size) if name in sizes else share
            for name, share in self._base.items()
        }

    def _weight(self, lines: Lines, name: str, block: int) -> float:
        """Return the share of a family's groups that taught in the latest block with any; 1 without such a block."""
        for number in range(block, 0, -1):
            first, last = (number - 1) * self._every_steps, number * self._every_steps
            metrics = [line["metrics"] for line in lines if first < line["step"] <= last]
            with_groups = [of_step for of_step in metrics if of_step.get(f"family_groups/{name}")]
            if with_groups:
                counts = [of_step[f"family_groups/{name}"] for of_step in with_groups]
                return fmean((of_step[f"family_informative_share/{name}"] for of_step in with_groups), counts)
        return 1.0
