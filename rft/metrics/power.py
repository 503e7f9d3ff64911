"""The smallest difference that held-out tasks can show, computed before anything is trained.

A paired comparison shows a mean difference d of n tasks with 80% probability at a level of 5% if n d^2 >= (z_0.975 +
z_0.8)^2 V, where V is the variance of a task's difference. V has two parts. The completions of a task vary: with m
completions before and after, by 2 s^2 / m. And the policy improves on some tasks more than on others. If no task gets
worse and scores have a range of w, a mean change of d varies by at most d (w - d) between tasks; this bound is used.
"""

from __future__ import annotations

import math
from statistics import NormalDist

FACTOR = (NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)) ** 2
"""7.85, for a level of 5% on both sides and a power of 80%."""


def smallest_difference(num_tasks: int, *, noise: float, width: float) -> float | None:
    """Return the smallest mean difference that a paired comparison shows with 80% probability.

    Args:
        num_tasks: Number of held-out tasks, at least 1.
        noise: Variance of a task's difference if the policy does not change: 2 s^2 / m.
        width: Range of the scores, above 0.

    Returns:
        The difference; None if not even the largest one would show.
    """
    total = num_tasks + FACTOR
    root = math.sqrt((FACTOR * width) ** 2 + 4 * total * FACTOR * noise)
    difference = (FACTOR * width + root) / (2 * total)
    return difference if difference <= width else None


def tasks_needed(difference: float, *, noise: float, width: float) -> int:
    """Return the number of held-out tasks that show a mean difference with 80% probability.

    Args:
        difference: Above 0, and at most `width`.
        noise: Variance of a task's difference if the policy does not change.
        width: Range of the scores.
    """
    return math.ceil(FACTOR * (noise + difference * (width - difference)) / difference**2)
