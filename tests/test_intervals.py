"""Estimates against textbook numbers and formulas worked by hand."""

import json
import math

import pytest

from rft.intervals import Estimate, estimate, paired_difference

Z = 1.959963984540054
"""The 97.5% point of the normal distribution."""


def wilson_by_hand(successes: int, n: int) -> tuple[float, float]:
    p = successes / n
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half_width = Z / (1 + Z**2 / n) * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return centre - half_width, centre + half_width


def test_eight_of_ten_has_the_textbook_wilson_interval() -> None:
    result = estimate([1.0] * 8 + [0.0] * 2)
    assert result.mean == 0.8
    assert result.n == 10
    assert result.ci95 == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert result.ci95 == pytest.approx(wilson_by_hand(8, 10))


@pytest.mark.parametrize(("successes", "n"), [(0, 20), (20, 20), (1, 1), (0, 1), (120, 250)])
def test_proportions_follow_wilson(successes: int, n: int) -> None:
    result = estimate([1.0] * successes + [0.0] * (n - successes))
    assert result.ci95 == pytest.approx(wilson_by_hand(successes, n), abs=1e-12)


def test_other_values_have_a_t_interval() -> None:
    # mean 0.5; deviations -0.4, 0, 0.2, 0.2, 0: sum of squares 0.24
    result = estimate([0.1, 0.5, 0.7, 0.7, 0.5])
    half_width = 2.7764451 * math.sqrt(0.24 / 4) / math.sqrt(5)
    assert result.mean == pytest.approx(0.5)
    assert result.ci95 == pytest.approx((0.5 - half_width, 0.5 + half_width), abs=1e-6)


def test_a_single_value_between_has_no_interval() -> None:
    assert estimate([0.4]) == Estimate(mean=0.4, ci95=None, n=1)


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf]])
def test_no_values_and_values_that_are_not_finite_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="mean"):
        estimate(values)


def test_paired_difference_is_taken_task_by_task_over_the_tasks_in_both() -> None:
    before = {"a": 0.0, "b": 0.5, "c": 0.2, "only before": 1.0}
    after = {"c": 0.4, "b": 0.5, "a": 1.0, "only after": 0.0}
    result = paired_difference(before, after)  # differences 1.0, 0.0, 0.2: mean 0.4, sum of squared deviations 0.56
    half_width = 4.3026527 * math.sqrt(0.56 / 2) / math.sqrt(3)
    assert result.n == 3
    assert result.mean == pytest.approx(0.4)
    assert result.ci95 == pytest.approx((0.4 - half_width, 0.4 + half_width), abs=1e-6)


def test_a_paired_interval_is_narrower_than_two_separate_ones() -> None:
    before = {str(i): i / 20 for i in range(20)}
    after = {key: value + 0.1 + 0.01 * (int(key) % 2) for key, value in before.items()}
    paired = paired_difference(before, after)
    apart = estimate(list(after.values()))
    assert paired.ci95 is not None
    assert apart.ci95 is not None
    assert paired.ci95[1] - paired.ci95[0] < 0.1 * (apart.ci95[1] - apart.ci95[0])


def test_equal_differences_are_no_certainty() -> None:
    share = wilson_by_hand(0, 20)[1]
    ids = [str(i) for i in range(20)]
    all_learned = paired_difference(dict.fromkeys(ids, 0.0), dict.fromkeys(ids, 1.0))
    assert all_learned.ci95 == pytest.approx((1 - 2 * share, 1.0))
    unchanged = paired_difference(dict.fromkeys(ids, 1.0), dict.fromkeys(ids, 1.0))
    assert unchanged.ci95 == pytest.approx((-share, share))
    unbounded = paired_difference(dict.fromkeys(ids, 0.0), dict.fromkeys(ids, 5.0))
    assert unbounded == Estimate(mean=5.0, ci95=None, n=20)


def test_no_common_task_is_refused() -> None:
    with pytest.raises(ValueError, match="no task in common"):
        paired_difference({"a": 1.0}, {"b": 1.0})


def test_json_there_and_back() -> None:
    for value in (estimate([1.0, 0.0]), Estimate(mean=0.4, ci95=None, n=1)):
        assert Estimate.from_json(json.loads(json.dumps(value.to_json(), allow_nan=False))) == value


def test_text_and_metrics() -> None:
    value = Estimate(mean=0.8, ci95=(0.49, 0.9433), n=10)
    assert value.text() == "0.800 [0.490, 0.943]"
    assert Estimate(mean=0.3, ci95=(-0.1, 0.7), n=10).text(signed=True) == "+0.300 [-0.100, +0.700]"
    assert Estimate(mean=0.4, ci95=None, n=1).text() == "0.400 [no interval]"
    assert value.to_metrics("eval") == {"eval/mean": 0.8, "eval/low": 0.49, "eval/high": 0.9433}
