"""What TRL says of each micro-batch of an optimizer step, brought together over micro-batches and ranks.

TRL averages over micro-batches as if all were of one size. Here they are of many sizes, so a mean counts each by its
tokens, and the least and the largest stay what they are: the numbers of a step do not depend on how it was divided.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Said = tuple[float, Mapping[str, Sequence[float]]]
"""Of a micro-batch its weight, and what TRL said of it, by name."""


def brought_together(micro_batches: Sequence[Said]) -> dict[str, float]:
    """One number of each name; those that end in `_min` or `_max` are the least and the largest. NaN is left out.

    Args:
        micro_batches: Of all ranks.
    """
    by_name: dict[str, list[tuple[float, float]]] = {}
    for weight, metrics in micro_batches:
        for name, values in metrics.items():
            by_name.setdefault(name, []).extend((weight, value) for value in values if not math.isnan(value))
    return {name: _one(name, weighed) for name, weighed in by_name.items() if weighed}


def _one(name: str, weighed: Sequence[tuple[float, float]]) -> float:
    if name.endswith("_min"):
        return min(value for _, value in weighed)
    if name.endswith("_max"):
        return max(value for _, value in weighed)
    return sum(weight * value for weight, value in weighed) / sum(weight for weight, _ in weighed)
