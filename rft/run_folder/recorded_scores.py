"""The scores of tasks, read from rollouts.jsonl."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any


def recorded_by_task(lines: Iterable[Mapping[str, Any]], metric: str) -> dict[str, float]:
    """Return the mean of the metric over each task's completions, like `Evaluation.by_task`, from rollouts.jsonl."""
    values: dict[str, list[float]] = {}
    for line in lines:
        value = line["reward"] if metric == "reward" else line["scores"][metric]["value"]
        if value is not None:
            values.setdefault(line["task_id"], []).append(value)
    return {task_id: statistics.fmean(of_task) for task_id, of_task in values.items()}
