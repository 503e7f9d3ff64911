"""Comparisons of measurements, worked out by hand."""

from __future__ import annotations

import pytest

from rft.metrics.comparison import Comparison, compare, comparison_notes, comparison_rows

BASE = {"a": 0.0, "b": 0.0, "c": 1.0, "d": 1.0, "e": None}
TUNED = {"a": 1.0, "b": 1.0, "c": 1.0, "d": None, "e": None}


def test_a_task_counts_only_if_every_arm_has_a_value() -> None:
    compared = compare(
        {"base": BASE, "tuned + x": TUNED}, [("base", "tuned + x")], subsets={"x": {"a", "e"}, "y": {"d"}}
    )
    assert (compared.num_tasks, compared.num_left_out) == (3, 2)
    assert compared.left_out == {"base": 1, "tuned + x": 2}
    assert {name: value.mean for name, value in compared.means.items()} == {
        "base": pytest.approx(1 / 3),
        "tuned + x": 1,
    }
    (difference,) = compared.differences
    assert difference.name == "(tuned + x) - base"
    assert difference.estimate.mean == pytest.approx(2 / 3)
    # Bonett and Price: one pseudo-task at -1 and one at +1 beside differences of 1, 1 and 0.
    low, high = difference.estimate.ci95 or (None, None)
    assert low == pytest.approx(0.4 - 1.959964 * 3.2**0.5 / 5, abs=1e-6)
    assert high == 1.0
    assert {part: means["base"].mean for part, means in compared.subsets.items()} == {"x": 0.0}
    assert Comparison.from_json(compared.to_json()) == compared
    assert [(name, number) for name, _, number in comparison_rows(compared)] == [
        *(("base", "3"), ("base, x", "1"), ("tuned + x", "3"), ("tuned + x, x", "1")),
        ("(tuned + x) - base", "3"),
    ]
    (note,) = comparison_notes(compared)
    assert note == "2 tasks are left out, because they could not be graded in every arm (base 1, tuned + x 2)"


def test_without_a_common_task_nothing_is_compared() -> None:
    compared = compare({"base": {"a": 1.0}, "tuned": {"a": None}}, [("base", "tuned")])
    assert (compared.means, compared.differences, compared.num_left_out) == ({}, (), 1)
    assert comparison_notes(compared)[-1] == "no task has a value in every arm, so the arms cannot be compared"
