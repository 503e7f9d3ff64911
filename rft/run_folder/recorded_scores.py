"""The scores of tasks, read from rollouts.jsonl."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def recorded_by_task(lines: Iterable[Mapping[str, Any]], metric: str) -> dict[str, float]:
    """Return the mean of the metric over each task's completions, like `Evaluation.by_task`, from rollouts.jsonl."""
    values: dict[str, list[float]] = {}
    for line in lines:
        add_value(values, line, metric)
    return means(values)


def recorded_measurements(lines: Iterable[Mapping[str, Any]], metric: str) -> dict[int | str, dict[str, float]]:
    """Return values like `recorded_by_task` for `before`, for `after`, and for each validation by its step."""
    values: dict[int | str, dict[str, list[float]]] = {}
    for line in lines:
        phase = line["phase"]
        if phase in ("before", "after", "validation"):
            add_value(values.setdefault(line["step"] if phase == "validation" else phase, {}), line, metric)
    return {measurement: means(by_task) for measurement, by_task in values.items()}


def add_value(values: dict[str, list[float]], line: Mapping[str, Any], metric: str) -> None:
    """Add the metric of a completion to those of its task, unless it is missing or its family has no such grader."""
    value = line["reward"] if metric == "reward" else line["scores"].get(metric, {}).get("value")
    if value is not None:
        values.setdefault(line["task_id"], []).append(value)


def means(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the mean of each task's values."""
    return {task_id: statistics.fmean(of_task) for task_id, of_task in values.items()}
