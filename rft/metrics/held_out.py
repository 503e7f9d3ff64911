"""The metric of held-out tasks: its values, its bounds, and the caveats of its estimates."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from rft.metrics.intervals import UNIT
from rft.types import GradedGroup


def metric_values(group: GradedGroup, metric: str) -> list[float]:
    """Return the metric of each completion in a group, without missing values."""
    scores = group.rewards if metric == "reward" else [grade.scores[metric].value for grade in group.grades]
    return [score for score in scores if score is not None]


def metric_bounds(
    graders: Mapping[str, Mapping[str, Any]], metric: str, families: Mapping[str, Collection[str]] | None = None
) -> tuple[float, float]:
    """Return the lowest and highest possible value of a metric. A grader without `range` scores in [0, 1].

    Args:
        graders: Configuration entries of graders, by name.
        metric: `reward`, or the name of a grader.
        families: Names of the graders of each family of a mixture. The bounds then hold for the reward of each family.
    """
    if families and metric == "reward":
        bounds = [metric_bounds(graders_of(graders, names), metric) for names in families.values()]
        return min(low for low, _ in bounds), max(high for _, high in bounds)
    if metric != "reward":
        low, high = graders[metric].get("range") or UNIT
        return float(low), float(high)
    weighted = [
        sorted(float(spec.get("weight", 1.0)) * float(limit) for limit in spec.get("range") or UNIT)
        for spec in graders.values()
    ]
    return sum(low for low, _ in weighted), sum(high for _, high in weighted)


def graders_of(graders: Mapping[str, Mapping[str, Any]], names: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """Return the configuration entries of the named graders."""
    return {name: spec for name, spec in graders.items() if name in names}


def caveats(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """Return the caveats of the estimates of `eval` in summary.json, by row of the result table."""
    labels = {"before": "before", "after": "after", "difference": "after - before"}
    estimates = {label: evaluation.get(name) for name, label in labels.items()}
    return {label: obj["caveat"] for label, obj in estimates.items() if obj and obj.get("caveat")}
