"""Counts the recoveries of a run: restarts of learner and samplers, and repeated steps, completions and grades."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from rft.events import (
    DuplicatesDropped,
    Event,
    GraderCallRepeated,
    LearnerRestarted,
    SamplerJoined,
    SamplerLost,
    SamplerReplaced,
)

PREFIX = "recovery/"
"""Beginning of the metrics' names."""


class RecoveryCounts:
    """A sink that counts recoveries between two steps."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def event(self, event: Event) -> None:
        """Count an event."""
        match event:
            case LearnerRestarted():
                self._counts.update(learner_restarts=1, redone_steps=event.redone_steps)
            case SamplerLost():
                self._counts["redone_completions"] += event.num_completions
            case SamplerReplaced():
                self._counts["sampler_restarts"] += 1
            case SamplerJoined():
                self._counts["joined_samplers"] += 1
            case DuplicatesDropped():
                self._counts["duplicate_completions"] += event.num_completions
            case GraderCallRepeated():
                self._counts["repeated_grader_calls"] += 1

    def close(self) -> None:
        """Hold nothing."""

    def take_metrics(self) -> dict[str, float]:
        """Return the metrics of a step, counted since the previous one; empty without a recovery."""
        metrics = {PREFIX + name: float(number) for name, number in self._counts.items() if number}
        self._counts.clear()
        return metrics

    def totals(self, lines: Iterable[Mapping[str, Any]]) -> dict[str, int]:
        """Return the counts of the whole run; empty without a recovery.

        Args:
            lines: The lines of metrics.jsonl.
        """
        totals = Counter({name: number for name, number in self._counts.items() if number})
        for line in lines:
            for name, number in line["metrics"].items():
                if name.startswith(PREFIX):
                    totals[name.removeprefix(PREFIX)] += int(number)
        return dict(totals)
