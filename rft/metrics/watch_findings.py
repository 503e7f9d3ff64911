"""What the watches of a run found, computed again from its metrics."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from rft.metrics.drift import DriftWatch
from rft.metrics.held_out import metric_bounds
from rft.metrics.intervals import UNIT
from rft.metrics.over_optimization import OverOptimizationWatch, Watched


def watched_by(
    graders: Mapping[str, Mapping[str, Any]], families: Mapping[str, Collection[str]], evaluation: Mapping[str, Any]
) -> Watched:
    """Return what a run's watch over over-optimisation compares.

    Args:
        graders: `graders` of the run's configuration.
        families: Names of the graders of each family of the run's mixture; empty without a mixture.
        evaluation: `evaluation` of the run's configuration.
    """
    independent = evaluation.get("independent_grader")  # absent from runs of earlier versions
    metric = evaluation["metric"]
    return Watched(
        rewarded=frozenset(name for name, spec in graders.items() if spec.get("weight", 1.0) != 0),
        metric=metric,
        reward_bounds=metric_bounds(graders, "reward", families),
        metric_bounds=metric_bounds(graders, metric, families),
        independent=independent,
        independent_bounds=metric_bounds(graders, independent) if independent else UNIT,
    )


def watch_findings(lines: Iterable[Mapping[str, Any]], watched: Watched) -> list[dict[str, Any]]:
    """Return the warnings of drift, entropy, KL and over-optimisation: `{"step": 30, "text": "..."}` each.

    They follow from the metrics alone, so a run that was killed and resumed has those of an uninterrupted one.

    Args:
        lines: Lines of metrics.jsonl.
        watched: What the run's watch compares.
    """
    steps = {
        line["step"]: {name: value for name, value in line["metrics"].items() if value is not None}
        for line in lines
        if line["step"] > 0
    }
    is_graded = any(map(watched.is_graded, steps.values()))
    drift = DriftWatch(bounds=watched.reward_bounds if is_graded else None)
    over = OverOptimizationWatch(watched)
    return [
        {"step": step, "text": text}
        for step, metrics in steps.items()
        for text in (*drift.observe(metrics)[1], *over.observe(step, metrics))
    ]
