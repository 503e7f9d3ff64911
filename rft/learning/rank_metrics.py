"""Combines TRL's metrics of all micro-batches and ranks into the metrics of an optimizer step.

TRL averages over micro-batches as if their sizes were equal. rft's micro-batches differ in size, so means are weighted
by tokens, and minima and maxima are taken over all micro-batches. The metrics of a step therefore do not depend on its
division into micro-batches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

MicroBatchMetrics = tuple[float, Mapping[str, Sequence[float]]]
"""The weight of a micro-batch, and TRL's metrics for it, by name."""


def combine(micro_batches: Sequence[MicroBatchMetrics]) -> dict[str, float]:
    """Return the minimum of metrics that end in `_min`, the maximum for `_max`, and the mean of others; NaN is ignored.

    Args:
        micro_batches: Metrics of the micro-batches of all ranks.
    """
    by_name: dict[str, list[tuple[float, float]]] = {}
    for weight, metrics in micro_batches:
        for name, values in metrics.items():
            by_name.setdefault(name, []).extend((weight, value) for value in values if not math.isnan(value))
    return {name: _combined(name, weighted) for name, weighted in by_name.items() if weighted}


def _combined(name: str, weighted: Sequence[tuple[float, float]]) -> float:
    if name.endswith("_min"):
        return min(value for _, value in weighted)
    if name.endswith("_max"):
        return max(value for _, value in weighted)
    return sum(weight * value for weight, value in weighted) / sum(weight for weight, _ in weighted)
