"""Estimates against published formulas, worked by hand."""

import json
import math
from functools import partial

import numpy as np
import pytest
from scipy import stats

from rft.metrics.intervals import Estimate, _student, estimate, mean_difference, over_runs, paired_difference

Z = 1.959963984540054
"""The 97.5% point of the normal distribution."""


def agresti_coull(successes: int, n: int) -> tuple[float, float]:
    total = n + Z**2
    p = (successes + Z**2 / 2) / total
    half_width = Z * math.sqrt(p * (1 - p) / total)
    return max(0.0, p - half_width), min(1.0, p + half_width)


def bonett_price(won: int, lost: int, n: int) -> tuple[float, float]:
    p_won, p_lost = (won + 1) / (n + 2), (lost + 1) / (n + 2)
    difference = p_won - p_lost
    half_width = Z * math.sqrt((p_won + p_lost - difference**2) / (n + 2))
    return max(-1.0, difference - half_width), min(1.0, difference + half_width)


def pairs(won: int, lost: int, n: int, top: float = 1.0) -> tuple[dict[str, float], dict[str, float]]:
    """Before and after; of the tasks that did not change, every second one was right."""
    before = [0.0] * won + [top] * lost + [top * (index % 2) for index in range(n - won - lost)]
    after = [top] * won + [0.0] * lost + before[won + lost :]
    return {str(i): value for i, value in enumerate(before)}, {str(i): value for i, value in enumerate(after)}


def test_eight_of_ten() -> None:
    # p = (8 + 1.920729) / 13.841459 = 0.716740, half width 1.959964 sqrt(0.716740 * 0.283260 / 13.841459) = 0.237372
    result = estimate([1.0] * 8 + [0.0] * 2)
    assert (result.mean, result.n, result.caveat) == (0.8, 10, None)
    assert result.ci95 == pytest.approx((0.479368, 0.954112), abs=1e-6)


@pytest.mark.parametrize(("successes", "n"), [(0, 20), (20, 20), (1, 1), (0, 1), (120, 250), (3, 1000)])
def test_a_proportion_has_the_interval_of_agresti_and_coull(successes: int, n: int) -> None:
    result = estimate([1.0] * successes + [0.0] * (n - successes))
    assert result.ci95 == pytest.approx(agresti_coull(successes, n), abs=1e-12)


@pytest.mark.parametrize(
    ("won", "lost", "n"), [(0, 0, 300), (1, 0, 300), (5, 0, 100), (45, 0, 50), (20, 20, 20 + 20), (201, 3, 300)]
)
def test_pairs_of_0_and_1_have_the_interval_of_bonett_and_price(won: int, lost: int, n: int) -> None:
    result = paired_difference(*pairs(won, lost, n))
    assert result.mean == pytest.approx((won - lost) / n)
    assert result.ci95 == pytest.approx(bonett_price(won, lost, n), abs=1e-12)
    assert result.caveat is None


def test_a_changed_task_makes_the_interval_wider() -> None:
    intervals = [paired_difference(*pairs(won, 0, 300)).ci95 for won in range(6)]
    widths = [interval[1] - interval[0] for interval in intervals if interval is not None]
    assert len(widths) == 6
    assert widths == sorted(widths)


def test_bounds_scale_the_intervals() -> None:
    half = estimate([0.5] * 12 + [0.0] * 28, bounds=(0.0, 0.5))
    assert half.ci95 == pytest.approx([0.5 * end for end in agresti_coull(12, 40)])
    paired = paired_difference(*pairs(7, 2, 40, top=0.5), bounds=(0.0, 0.5))
    assert paired.ci95 == pytest.approx([0.5 * end for end in bonett_price(7, 2, 40)])


def test_the_sum_of_weights_may_be_off_by_rounding() -> None:
    top = 0.1 + 0.2  # a little more than 0.3
    assert estimate([top] * 5 + [0.0] * 5, bounds=(0.0, 0.3)).ci95 == pytest.approx(
        [0.3 * end for end in agresti_coull(5, 10)]
    )


def coverage(draw: "partial[np.ndarray]", mean: float, repeats: int) -> float:
    hits = 0
    for _ in range(repeats):
        low, high = estimate(draw().tolist()).ci95 or (math.nan, math.nan)
        assert low >= 0
        assert high <= 1
        hits += low <= mean <= high
    return hits / repeats


def test_skewed_scores_are_covered_where_the_t_interval_fails() -> None:
    # Beta(0.05, 1) has the mean 1 / 21; the t interval of 30 values holds it in 82% of cases.
    random = np.random.default_rng(5)
    assert coverage(partial(random.beta, 0.05, 1.0, 30), 1 / 21, repeats=120) > 0.9


def test_symmetric_scores_have_about_the_t_interval() -> None:
    values = [index / 99 for index in range(100)]
    low, high = estimate(values).ci95 or (math.nan, math.nan)
    expected = stats.t.interval(0.95, 99, loc=0.5, scale=stats.sem(values))
    assert low <= expected[0]
    assert high >= expected[1]
    assert high - low < 1.05 * (expected[1] - expected[0])


def test_a_long_tail_stretches_the_interval_towards_it() -> None:
    values = (np.linspace(0, 1, 80) ** 6).tolist()
    result = estimate(values)
    assert result.ci95 is not None
    assert result.ci95[1] - result.mean > 1.1 * (result.mean - result.ci95[0])
    assert result.caveat == "the scores are skewed, and 80 tasks are few for that: the interval may be too narrow"
    assert estimate(values) == result  # the bootstrap has a fixed seed


def test_a_single_score_is_not_known_well() -> None:
    # Pseudo-values: 1.920729 at 0 and at 1. Centre (0.4 + 1.920729) / 4.841459, squares 1.920729 + 0.16 - 4.841459 c^2
    centre = 2.320729 / 4.841459
    half_width = Z * math.sqrt(1.920729 + 0.16 - 4.841459 * centre**2) / 4.841459
    result = estimate([0.4])
    assert result.ci95 == pytest.approx((centre - half_width, centre + half_width), abs=1e-5)


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf]])
def test_no_values_and_values_that_are_not_finite_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="mean"):
        estimate(values)


def test_scores_without_a_known_range() -> None:
    assert estimate([3.0] * 20) == Estimate(mean=3.0, ci95=None, n=20)
    few = estimate([1.0, 5.0, 7.0, 7.0, 5.0])  # mean 5, sum of squared deviations 24
    half_width = 2.7764451 * math.sqrt(24 / 4) / math.sqrt(5)
    assert few.ci95 == pytest.approx((5 - half_width, 5 + half_width), abs=1e-6)
    assert few.caveat == (
        "only 3 of 5 tasks differ from the others, and the scores have no known range: the interval may be too narrow"
    )


def test_differences_are_taken_task_by_task_over_the_tasks_in_both() -> None:
    before = {"a": 0.0, "b": 0.5, "c": 0.2, "only before": 1.0}
    after = {"c": 0.4, "b": 0.5, "a": 1.0, "only after": 0.0}
    result = paired_difference(before, after)  # differences 1.0, 0.0, 0.2, and pseudo-values -1 and 1
    half_width = Z * math.sqrt((1 + 0.04 + 2) / 5 - 0.24**2) / math.sqrt(5)
    assert result.n == 3
    assert result.mean == pytest.approx(0.4)
    assert result.ci95 == pytest.approx((0.24 - half_width, 0.24 + half_width), abs=1e-6)


def test_a_paired_interval_is_narrower_than_two_separate_ones() -> None:
    before = {str(i): i / 200 for i in range(200)}
    after = {key: value + 0.1 + 0.01 * (int(key) % 2) for key, value in before.items()}
    paired = paired_difference(before, after, bounds=(0, 2))
    apart = estimate(list(after.values()), bounds=(0, 2))
    assert paired.ci95 is not None
    assert apart.ci95 is not None
    assert paired.ci95[1] - paired.ci95[0] < 0.1 * (apart.ci95[1] - apart.ci95[0])


def test_no_common_task_is_refused() -> None:
    with pytest.raises(ValueError, match="no task in common"):
        paired_difference({"a": 1.0}, {"b": 1.0})


def test_json_there_and_back() -> None:
    for value in (estimate([1.0, 0.0]), Estimate(mean=0.4, ci95=None, n=1), estimate([1.0, 5.0, 7.0])):
        assert Estimate.from_json(json.loads(json.dumps(value.to_json(), allow_nan=False))) == value
    assert Estimate.from_json({"mean": 0.5, "ci95": None, "n": 1}) == Estimate(mean=0.5, ci95=None, n=1)


def test_text_and_metrics() -> None:
    value = Estimate(mean=0.8, ci95=(0.49, 0.9433), n=10)
    assert value.text() == "0.800 [0.490, 0.943]"
    assert Estimate(mean=0.3, ci95=(-0.1, 0.7), n=10).text(signed=True) == "+0.300 [-0.100, +0.700]"
    assert Estimate(mean=0.4, ci95=None, n=1).text() == "0.400 [no interval]"
    assert value.to_metrics("eval") == {"eval/mean": 0.8, "eval/low": 0.49, "eval/high": 0.9433}


@pytest.mark.parametrize("n", [2, 3, 4, 10, 11, 30, 100, 301, 1319, 100_000])
def test_the_quantile_of_students_t(n: int) -> None:
    # SciPy's own error is a few units in the last place.
    assert _student(n) == pytest.approx(stats.t.ppf(0.975, n - 1), rel=1e-13)


def test_intervals_that_hold_together_take_students_t() -> None:
    """Welch with 4 degrees of freedom: the t at 1 - 0.025 / 3 is SciPy's 3.961."""
    before, after = [0.2, 0.3, 0.4], [0.6, 0.7, 0.8]
    half_width = float(stats.t.ppf(1 - 0.025 / 3, 4)) * math.sqrt(2 * 0.01 / 3)
    found = mean_difference(before, after, num_comparisons=3)
    assert found.ci95 == pytest.approx((0.4 - half_width, 0.4 + half_width))
    assert over_runs([0.5]).ci95 is None
