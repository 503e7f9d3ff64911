"""Tests of differences between measurements of the same tasks, and pass@k."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

EXACT = 14
"""Most tasks that differ for which all signs are tried."""
DRAWS = 10_000
"""Random signs that are tried otherwise."""
AT_ONCE = 2_000_000
"""Values drawn at a time."""


def mcnemar(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Return the exact p-value of McNemar's test (Psychometrika 12:153, 1947) for outcomes of 0 or 1.

    Args:
        before: Outcome by task id.
        after: Outcome of the same tasks.

    Returns:
        The probability of a difference at least as large, on either side, if both were equally good: a fair coin
        decides each task on which they differ.

    Raises:
        ValueError: An outcome is neither 0 nor 1.
    """
    if not is_binary([*before.values(), *after.values()]):
        raise ValueError("McNemar's test takes outcomes of 0 and 1 only")
    won = sum(before[task] < after[task] for task in before)
    lost = sum(before[task] > after[task] for task in before)
    changed = won + lost
    tail = sum(math.comb(changed, count) for count in range(min(won, lost) + 1)) / 2**changed
    return float(min(1.0, 2 * tail))


def is_binary(values: Sequence[float]) -> bool:
    """Whether all values are 0 or 1."""
    return set(values) <= {0.0, 1.0}


def sign_flips(before: Mapping[str, float], after: Mapping[str, float], *, seed: int = 0) -> float:
    """Return the p-value of a paired permutation test (Fisher 1935; Good 2005, section 3.7).

    If both were equally good, each task's difference could as well have the other sign. Unlike a bootstrap, the test
    rejects no more often than it says, also with few tasks.

    Args:
        before: Value by task id.
        after: Value of the same tasks.
        seed: Seed of the draws, if there are too many signs to try all.

    Returns:
        The share of signs for which the mean is at least as far from 0 as that of the data: of all signs with at most
        `EXACT` tasks that differ, and otherwise of `DRAWS` random ones and the data itself.
    """
    differences = np.array([after[task] - before[task] for task in before if after[task] != before[task]])
    if not len(differences):
        return 1.0
    bound = abs(differences.sum()) * (1 - 1e-9)
    if len(differences) <= EXACT:
        signs = 1 - 2 * (np.arange(2 ** len(differences))[:, None] >> np.arange(len(differences)) & 1)
        return float((np.abs(signs @ differences) >= bound).mean())
    draw = np.random.default_rng(seed)
    rows = max(1, AT_ONCE // len(differences))
    farther, left = 0, DRAWS
    while left:
        count = min(rows, left)
        signs = draw.integers(0, 2, size=(count, len(differences)), dtype=np.int8) * 2 - 1
        farther += int(np.count_nonzero(np.abs(signs @ differences) >= bound))
        left -= count
    return (farther + 1) / (DRAWS + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that hold for all comparisons together (Holm, Scandinavian Journal of Statistics 6:65, 1979)."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def pass_at_k(num_samples: int, num_right: int, k: int) -> float:
    """Return the unbiased estimate of the chance that one of k samples is right (arXiv 2107.03374).

    Args:
        num_samples: Samples of the task, at least `k`.
        num_right: Right ones among them.
        k: Number of attempts.

    Raises:
        ValueError: There are fewer samples than attempts.
    """
    if k > num_samples:
        raise ValueError(f"pass@{k} needs {k} samples of a task, and there are {num_samples}")
    return 1 - math.comb(num_samples - num_right, k) / math.comb(num_samples, k)
