"""Tests of differences and pass@k, against SciPy, brute force and numbers worked out by hand."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binomtest

from rft.metrics.significance import holm, mcnemar, pass_at_k, sign_flips


@pytest.mark.parametrize(("won", "lost", "equal"), [(9, 1, 20), (3, 3, 5), (0, 0, 4), (0, 6, 0), (40, 22, 100)])
def test_mcnemar(won: int, lost: int, equal: int) -> None:
    outcomes = [(0.0, 1.0)] * won + [(1.0, 0.0)] * lost + [(1.0, 1.0)] * equal
    before = {str(task): one for task, (one, _) in enumerate(outcomes)}
    after = {str(task): other for task, (_, other) in enumerate(outcomes)}
    expected = binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert mcnemar(before, after) == pytest.approx(expected)


def test_mcnemar_needs_outcomes_of_0_and_1() -> None:
    with pytest.raises(ValueError, match="0 and 1"):
        mcnemar({"a": 0.5}, {"a": 1.0})


def test_holm() -> None:
    # Sorted: 0.01 * 3, 0.02 * 2, and 0.03 * 1, which may not be below the one before.
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@pytest.mark.parametrize("num_samples", [1, 4, 6])
def test_pass_at_k_equals_brute_force(num_samples: int) -> None:
    for num_right in range(num_samples + 1):
        samples = [1] * num_right + [0] * (num_samples - num_right)
        for k in range(1, num_samples + 1):
            draws = [max(draw) for draw in combinations(samples, k)]
            assert pass_at_k(num_samples, num_right, k) == pytest.approx(sum(draws) / len(draws))


def test_pass_at_k_needs_k_samples() -> None:
    with pytest.raises(ValueError, match="pass@5 needs 5 samples"):
        pass_at_k(4, 1, 5)


def test_all_signs_are_tried() -> None:
    """Of 8 signs of 1, 2 and -1, the sums are +-2 (twice), +-4 and +-0 (twice each): 2 is reached by 6 of them."""
    before, after = {"a": 0.0, "b": 0.0, "c": 1.0, "d": 0.5}, {"a": 1.0, "b": 2.0, "c": 0.0, "d": 0.5}
    sums = [one * 1 + two * 2 + three for one in (1, -1) for two in (1, -1) for three in (1, -1)]
    assert sign_flips(before, after) == sum(abs(value) >= 2 for value in sums) / 8
    assert sign_flips(before, before) == 1.0
    assert sign_flips({"a": 0.0, "b": 0.0}, {"a": 0.5, "b": 0.5}) == 0.5  # two tasks can show nothing


def test_many_signs_are_drawn() -> None:
    """With many tasks, the p-value is that of a z-test: 0.0455 at two standard errors."""
    draws = np.random.default_rng(1).normal(size=400)
    draws = (draws - draws.mean()) / draws.std()
    after = {str(task): value + 2 / 20 for task, value in enumerate(draws)}
    before = dict.fromkeys(after, 0.0)
    assert sign_flips(before, after) == pytest.approx(0.0455, abs=0.008)
    assert sign_flips(after, before) == sign_flips(before, after)
