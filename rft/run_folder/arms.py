"""The four arms of a run that shows passages: base and tuned policy, each without and with retrieval.

All four measure the same held-out tasks with the same random numbers. `before` and `after` show passages, as in
training; two further measurements show none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rft.metrics.comparison import Comparison, compare
from rft.run_folder.recorded_scores import add_value, means
from rft.run_folder.recorder import read_rollouts

BASE, TUNED, WITH = "base", "tuned", " + retrieval"
START = "start"
"""Name of the first policy of a run that starts from an adapter, instead of `base`."""
LEFT_OUT, SHOWN = "passages left out", "passages shown"
"""Parts of the tasks, if `retrieval.left_out_share` leaves out relevant passages of some."""


def read_arms(folder: Path, metric: str, *, starts_from_base: bool, bounds: tuple[float, float]) -> Comparison | None:
    """Compare the arms of a run folder; None before the measurements after the run are complete.

    Args:
        folder: The run folder.
        metric: `reward`, or the name of a grader.
        starts_from_base: Whether the run starts from the base model, not from an adapter.
        bounds: Lowest and highest possible value of the metric.
    """
    first = BASE if starts_from_base else START
    arms = {
        "before without passages": first,
        "before": first + WITH,
        "after without passages": TUNED,
        "after": TUNED + WITH,
    }
    values, left_out = _measured(read_rollouts(folder), metric, arms)
    if not {TUNED, TUNED + WITH} <= values.keys():
        return None
    ids = {task_id for of_arm in values.values() for task_id in of_arm}
    return compare(
        {name: values[name] for name in arms.values() if name in values},
        [
            (first, first + WITH),
            (first, TUNED),
            (TUNED, TUNED + WITH),
            (first + WITH, TUNED + WITH),
            (first, TUNED + WITH),
        ],
        bounds=bounds,
        subsets={SHOWN: ids - left_out, LEFT_OUT: left_out} if left_out else {},
    )


def _measured(
    lines: Iterable[Mapping[str, Any]], metric: str, arms: Mapping[str, str]
) -> tuple[dict[str, dict[str, float | None]], set[str]]:
    """Return the values of each arm, and the ids of tasks whose relevant passages are left out."""
    values: dict[str, dict[str, list[float]]] = {}
    seen: dict[str, dict[str, None]] = {}
    left_out: set[str] = set()
    for line in lines:
        arm = arms.get(line["phase"])
        if arm is None:
            continue
        seen.setdefault(arm, {})[line["task_id"]] = None
        add_value(values.setdefault(arm, {}), line, metric)
        if line["item"].get("passages_left_out"):
            left_out.add(line["task_id"])
    return {arm: seen[arm] | means(values[arm]) for arm in seen}, left_out
