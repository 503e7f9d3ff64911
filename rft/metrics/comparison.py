"""Compares measurements of the same tasks: means, and differences paired by task, each with its 95% interval.

A task counts only if every measurement has a value for it, so that all means speak of the same tasks. The others are
left out and counted; none counts as 0.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rft.metrics.intervals import UNIT, Estimate, estimate, paired_difference

Values = Mapping[str, float | None]
"""The value of each measured task, by its id; None if none of its completions has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The difference of two measurements, paired by task.

    Example:
        Difference(before="base", after="tuned", estimate=Estimate(mean=0.2, ci95=(0.1, 0.3), n=250))
    """

    before: str
    """Name of the measurement that is subtracted."""
    after: str
    """Name of the measurement that it is subtracted from."""
    estimate: Estimate
    """Mean of after minus before."""

    @property
    def name(self) -> str:
        """`tuned - base`, with parentheses around a name that is a sum."""
        return " - ".join(f"({name})" if " + " in name else name for name in (self.after, self.before))

    def to_json(self) -> dict[str, Any]:
        """Return `{"before": "base", "after": "tuned", "mean": 0.2, ...}`."""
        return {"before": self.before, "after": self.after, **self.estimate.to_json()}

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> Difference:
        """Read the result of `to_json`."""
        return cls(before=obj["before"], after=obj["after"], estimate=Estimate.from_json(obj))


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Several measurements of the same tasks.

    Example:
        Comparison(means={"base": Estimate(...), "tuned": Estimate(...)}, differences=(Difference(...),), num_tasks=250,
                   left_out={"base": 0, "tuned": 2})
    """

    means: Mapping[str, Estimate]
    """Mean of each measurement, by its name; empty if no task has a value in all of them."""
    differences: tuple[Difference, ...]
    """Differences, paired by task."""
    num_tasks: int
    """Tasks with a value in every measurement."""
    left_out: Mapping[str, int]
    """Tasks without a value, by the name of the measurement. One may lack a value in several."""
    num_left_out: int = 0
    """Tasks that are left out of all means, because some measurement has no value for them."""
    subsets: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    """Means over a part of the tasks, by the name of the part, and then of the measurement."""

    def to_json(self) -> dict[str, Any]:
        """Return the values as plain containers."""
        return {
            "means": {name: value.to_json() for name, value in self.means.items()},
            "differences": [difference.to_json() for difference in self.differences],
            "num_tasks": self.num_tasks,
            "num_left_out": self.num_left_out,
            "left_out": dict(self.left_out),
            "subsets": {
                part: {name: value.to_json() for name, value in means.items()} for part, means in self.subsets.items()
            },
        }

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> Comparison:
        """Read the result of `to_json`."""
        return cls(
            means={name: Estimate.from_json(value) for name, value in obj["means"].items()},
            differences=tuple(Difference.from_json(value) for value in obj["differences"]),
            num_tasks=obj["num_tasks"],
            num_left_out=obj["num_left_out"],
            left_out=obj["left_out"],
            subsets={
                part: {name: Estimate.from_json(value) for name, value in means.items()}
                for part, means in obj["subsets"].items()
            },
        )


def compare(
    measured: Mapping[str, Values],
    pairs: Sequence[tuple[str, str]],
    *,
    bounds: tuple[float, float] = UNIT,
    subsets: Mapping[str, Collection[str]] | None = None,
) -> Comparison:
    """Compare measurements.

    Args:
        measured: The values of each measurement, by its name.
        pairs: Names of the measurements whose difference is wanted: what is subtracted, and from what. A pair with a
            name that `measured` lacks has none.
        bounds: Lowest and highest possible value.
        subsets: Ids of tasks of a part, by its name; a part without a task that counts is absent from the result.
    """
    ids = list(dict.fromkeys(task_id for values in measured.values() for task_id in values))
    common = [task_id for task_id in ids if all(values.get(task_id) is not None for values in measured.values())]
    paired = {name: _of(values, common) for name, values in measured.items()}
    parts = {part: [task_id for task_id in common if task_id in members] for part, members in (subsets or {}).items()}
    return Comparison(
        means=_means(paired, common, bounds),
        differences=tuple(
            Difference(
                before=before, after=after, estimate=paired_difference(paired[before], paired[after], bounds=bounds)
            )
            for before, after in pairs
            if common and before in paired and after in paired
        ),
        num_tasks=len(common),
        num_left_out=len(ids) - len(common),
        left_out={
            name: sum(values.get(task_id) is None for task_id in ids) for name, values in measured.items()
        },
        subsets={part: _means(paired, members, bounds) for part, members in parts.items() if members},
    )  # fmt: skip


def _of(values: Values, ids: Sequence[str]) -> dict[str, float]:
    return {task_id: value for task_id in ids if (value := values.get(task_id)) is not None}


def _means(
    measured: Mapping[str, Mapping[str, float]], ids: Sequence[str], bounds: tuple[float, float]
) -> dict[str, Estimate]:
    if not ids:
        return {}
    return {name: estimate([values[task_id] for task_id in ids], bounds=bounds) for name, values in measured.items()}


COMPARISON_COLUMNS = ("", "mean and 95% interval", "tasks")
"""Header of `comparison_rows`."""


def comparison_rows(comparison: Comparison) -> list[tuple[str, str, str]]:
    """Return one row of texts for each measurement, with its parts, and then for each difference."""
    rows = []
    for name, value in comparison.means.items():
        rows.append((name, value.text(), str(value.n)))
        for part, means in comparison.subsets.items():
            rows.append((f"{name}, {part}", means[name].text(), str(means[name].n)))
    for difference in comparison.differences:
        rows.append((difference.name, difference.estimate.text(signed=True), str(difference.estimate.n)))
    return rows


def comparison_notes(comparison: Comparison) -> list[str]:
    """Return the tasks that are left out, and the caveats of the intervals, one sentence each without a full stop."""
    notes = []
    if comparison.num_left_out:
        by_name = ", ".join(f"{name} {count}" for name, count in comparison.left_out.items() if count)
        notes.append(
            f"{comparison.num_left_out} tasks are left out, because they could not be graded in every arm ({by_name})"
        )
    if not comparison.means:
        notes.append("no task has a value in every arm, so the arms cannot be compared")
    named = [*comparison.means.items(), *((one.name, one.estimate) for one in comparison.differences)]
    return notes + [f"{name}: {value.caveat}" for name, value in named if value.caveat]
