"""Warns of a learner that had too little memory for its micro-batches."""

from __future__ import annotations

from collections.abc import Mapping

PARTS = "learner/micro_batch_parts"
"""Metric of a step whose micro-batches the learner computed in parts."""


class HalvingWatch:
    """Observes the metrics of the steps in order."""

    def __init__(self) -> None:
        self._has_warned = False

    def observe(self, metrics: Mapping[str, float]) -> str | None:
        """Return a warning at the first step with divided micro-batches, otherwise None."""
        if self._has_warned or metrics.get(PARTS, 1.0) <= 1:
            return None
        self._has_warned = True
        return (
            "the learner's memory did not hold a whole micro-batch, so it repeated the step and computes each "
            "micro-batch in two parts from now on; a lower learner.completions_per_micro_batch avoids this"
        )
