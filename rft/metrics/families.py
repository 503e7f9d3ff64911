"""Held-out results of each task family of a mixture."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from rft.metrics.held_out import graders_of, metric_bounds
from rft.metrics.intervals import Estimate, estimate, paired_difference


def of_family(by_task: Mapping[str, float], family: str) -> dict[str, float]:
    """Return the values of the tasks of a family, whose ids begin with its name and a slash."""
    return {task_id: value for task_id, value in by_task.items() if task_id.startswith(f"{family}/")}


def family_results(
    before: Mapping[str, float],
    after: Mapping[str, float],
    *,
    metric: str,
    graders: Mapping[str, Mapping[str, Any]],
    families: Mapping[str, Collection[str]],
) -> dict[str, dict[str, Any]]:
    """Return `families` of summary.json: `before`, `after` and `difference` of each measured family.

    Args:
        before: Value by task id, before the run; empty without a measurement.
        after: Value by task id, after the run.
        metric: `reward`, or the name of a grader.
        graders: Configuration entries of graders, by name.
        families: Names of the graders of each family.
    """
    results: dict[str, dict[str, Any]] = {}
    for name, names in families.items():
        earlier, later = of_family(before, name), of_family(after, name)
        if not earlier and not later:
            continue
        bounds = metric_bounds(graders_of(graders, names), metric)
        is_paired = bool(earlier.keys() & later.keys())
        results[name] = {
            "before": estimate(list(earlier.values()), bounds=bounds).to_json() if earlier else None,
            "after": estimate(list(later.values()), bounds=bounds).to_json() if later else None,
            "difference": paired_difference(earlier, later, bounds=bounds).to_json() if is_paired else None,
        }
    return results


FAMILY_COLUMNS = ("family", "before", "after", "after - before, paired", "tasks")
"""Header of `family_rows`."""


def family_rows(families: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return one row of texts for each family: means with 95% intervals, and the number of tasks.

    Args:
        families: Result of `family_results`.
    """
    rows = []
    for name, measured in families.items():
        known = {key: Estimate.from_json(obj) for key, obj in measured.items() if obj}
        texts = [
            known[key].text(signed=key == "difference") if key in known else "-"
            for key in ("before", "after", "difference")
        ]
        rows.append((name, *texts, str(max(value.n for value in known.values()))))
    return rows
