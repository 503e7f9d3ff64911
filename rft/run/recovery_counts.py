"""Counts the recoveries of a run for its metrics and its summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from rft.events import Event, LearnerRestarted

NAMES = ("learner_restarts", "redone_steps")
"""Names of the counts, `recovery/...` in metrics."""


class RecoveryCounts:
    """A sink that counts recoveries."""

    def __init__(self) -> None:
        self._since_last_step: Counter[str] = Counter()

    def event(self, event: Event) -> None:
        """Count a restart of the learner; ignore other events."""
        if isinstance(event, LearnerRestarted):
            self._since_last_step.update(learner_restarts=1, redone_steps=event.redone_steps)

    def close(self) -> None:
        """Do nothing."""

    def take_metrics(self) -> dict[str, float]:
        """Return the metrics of a step, counted since the previous step."""
        counts, self._since_last_step = self._since_last_step, Counter()
        return {f"recovery/{name}": float(counts[name]) for name in NAMES}

    def totals(self, lines: Iterable[Mapping[str, Any]]) -> dict[str, int]:
        """Return the counts of the whole run.

        Args:
            lines: The lines of metrics.jsonl.
        """
        totals = Counter({name: self._since_last_step[name] for name in NAMES})
        for line in lines:
            for name in NAMES:
                totals[name] += int(line["metrics"].get(f"recovery/{name}", 0))
        return dict(totals)
