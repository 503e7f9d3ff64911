"""The share of informative groups, against brute force over subsets and numbers worked out by hand."""

from itertools import combinations
from statistics import fmean

import pytest

from rft.metrics.informative import (
    between_tasks,
    both_informative,
    equal_counts,
    informative_share,
    predicted_share,
    wilson,
)

SAMPLES = ((0.0, 0.0, 0.0, 1.0, 1.0, 0.0), (0.5, 1.0, 0.0, 0.5, 0.5, 0.0), (1.0,) * 6, (0.3, 0.1 + 0.2, 0.0, 0.7))


@pytest.mark.parametrize("samples", SAMPLES)
def test_shares_equal_brute_force(samples: tuple[float, ...]) -> None:
    rounded = [round(value, 9) for value in samples]  # 0.1 + 0.2 equals 0.3
    counts = equal_counts(samples)
    for size in range(1, len(samples) + 1):
        groups = list(combinations(range(len(samples)), size))
        differ = {group: len({rounded[place] for place in group}) > 1 for group in groups}
        assert informative_share(counts, size) == pytest.approx(fmean(differ.values()))
        pairs = [(one, other) for one in groups for other in groups if not set(one) & set(other)]
        if pairs:
            expected = fmean(differ[one] and differ[other] for one, other in pairs)
            assert both_informative(counts, size) == pytest.approx(expected)


def test_shares_have_no_bias() -> None:
    """Over all outcomes of 5 samples with p = 0.3, the mean is 1 - p^G - (1 - p)^G."""
    p = 0.3
    for size in (2, 3, 5):
        mean = 0.0
        for outcome in range(2**5):
            right = outcome.bit_count()
            counts = [count for count in (5 - right, right) if count]
            mean += p**right * (1 - p) ** (5 - right) * informative_share(counts, size)
        assert mean == pytest.approx(1 - p**size - (1 - p) ** size)


def test_too_few_samples() -> None:
    with pytest.raises(ValueError, match="a group of 4 needs 4 samples of a task, and there are 3"):
        informative_share([1, 2], 4)
    with pytest.raises(ValueError, match="two groups of 2 need 4 samples"):
        both_informative([1, 2], 2)


def test_spread_between_tasks() -> None:
    """Half of the tasks are always informative, half never: the variance is 1/4, for two tasks 1/2 without bias."""
    assert between_tasks([[1, 1, 1, 1], [4]], 2) == pytest.approx(0.5)
    assert between_tasks([[4], [4]], 2) == 0.0
    assert between_tasks([[2, 1], [4]], 2) is None
    assert between_tasks([[4]], 2) is None


def test_predictions() -> None:
    assert wilson(0.0, 100) == pytest.approx((0.0, 0.0370), abs=1e-4)
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    shares = {str(task): float(task % 2) for task in range(100)}
    # The variance of a mean of 100 is 0.25 / 99 for the estimate and 0.25 / 100 for the run.
    elsewhere = dict.fromkeys(map(str, range(1000, 1100)), 1)
    effective = 1 / (1 / 99 + 1 / 100)
    assert predicted_share(shares, elsewhere, between=None) == pytest.approx(wilson(0.5, effective))
    # If the run visits the sampled tasks, and these differ in nothing but the task, nothing is left of it.
    low, high = predicted_share(shares, dict.fromkeys(shares, 1), between=0.25)
    assert low == pytest.approx(high, abs=0.03)
    assert predicted_share({"a": 0.0}, {"a": 4}, between=None) == pytest.approx(wilson(0.0, 0.8))
