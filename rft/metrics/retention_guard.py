"""Guards the scores of task families during a run: warns of a drop, or ends the run.

The guard compares each measurement of validation tasks with the one before the first step, paired by task. Its state
follows from the metrics of the steps, so a resumed run that reads its own metrics again continues like an
uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rft.metrics.families import of_family
from rft.metrics.intervals import ROUNDING, Estimate, paired_difference

DROP = "guard/"
"""Prefix of the metrics: `guard/<family>/mean`, `low` and `high` describe the drop, positive for a loss."""


class RetentionGuard:
    """The guard of a run.

    Args:
        max_drops: Largest allowed drop of the mean score, by family; empty guards nothing.
        stops: Whether the run ends after a larger drop whose interval excludes 0.
        bounds: Lowest and highest possible score, by family.
    """

    def __init__(
        self, max_drops: Mapping[str, float], *, stops: bool, bounds: Mapping[str, tuple[float, float]]
    ) -> None:
        self._max_drops = max_drops
        self._stops = stops
        self._bounds = bounds
        self._reference: dict[str, float] = {}
        self._exceeded: set[str] = set()
        self.is_over = False
        """Whether a drop ends the run."""

    @property
    def families(self) -> frozenset[str]:
        """The guarded families."""
        return frozenset(self._max_drops)

    def refer_to(self, by_task: Mapping[str, float]) -> None:
        """Set the scores from before the first step, by task id."""
        self._reference = dict(by_task)

    def read(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Read the lines of a run's metrics.jsonl."""
        for line in lines:
            self._update(line["metrics"])

    def observe(self, by_task: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
        """Observe a measurement of the validation tasks.

        Args:
            by_task: Score by task id, of all families.

        Returns:
            The metrics, and one warning for each family whose drop exceeds its limit now, but did not before.
        """
        metrics: dict[str, float] = {}
        drops: dict[str, Estimate] = {}
        warnings = []
        for name in self._max_drops:
            before, now = of_family(self._reference, name), of_family(by_task, name)
            if not before and not now:  # without validation tasks, only the end of the run shows a drop
                continue
            if not before.keys() & now.keys():
                warnings.append(
                    f"evaluation.guard.{name}: no validation task of the family was graded both before the first step "
                    "and now, so a drop would go unnoticed"
                )
                continue
            drops[name] = paired_difference(now, before, bounds=self._bounds[name])
            metrics |= drops[name].to_metrics(f"{DROP}{name}")
        earlier = self._exceeded
        self._update(metrics)
        new = self._exceeded if self.is_over else self._exceeded - earlier
        warnings += [self._warning(name, drops[name]) for name in drops if name in new]
        return metrics, warnings

    def _update(self, metrics: Mapping[str, float | None]) -> None:
        """Take over the drops in a step's metrics; a step without a measurement changes nothing."""
        drops = {name: drop for name in self._max_drops if (drop := metrics.get(f"{DROP}{name}/mean")) is not None}
        if not drops:
            return
        self._exceeded = {name for name, drop in drops.items() if drop > self._max_drops[name] + ROUNDING}
        self.is_over = self._stops and any((metrics.get(f"{DROP}{name}/low") or 0.0) > 0 for name in self._exceeded)

    def _warning(self, name: str, drop: Estimate) -> str:
        end = ""
        if self._stops:
            end = "; the run ends" if self.is_over else "; its interval contains 0, so the run goes on"
        return (
            f"evaluation.guard.{name}={self._max_drops[name]:g}: the score of the family has dropped by {drop.text()} "
            f"since before the first step, over {drop.n} validation tasks{end}. Counter-measures: more data.replay, a "
            "lower learner.learning_rate, fewer steps"
        )
