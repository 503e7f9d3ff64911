"""The share of informative groups: groups whose rewards differ, from which a group-relative method can learn.

From n graded samples of a task, the share of its informative groups of size G is estimated without bias as the share of
all subsets of G samples whose rewards are not all equal. With c right and n - c wrong samples, that is
1 - [C(c, G) + C(n - c, G)] / C(n, G). Its expected value is 1 - p^G - (1 - p)^G for a pass rate p, which p's own
estimate in its place would miss. A mean over tasks needs the share of each task, since a mean pass rate hides that some
tasks are always solved and others never.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, variance

from rft.metrics.intervals import Z
from rft.types import EQUAL_REWARDS


def equal_counts(rewards: Sequence[float]) -> list[int]:
    """Return the number of samples with each reward, from the lowest; rewards within `EQUAL_REWARDS` are equal."""
    counts: list[int] = []
    last = math.nan
    for reward in sorted(rewards):
        if math.isclose(reward, last, rel_tol=EQUAL_REWARDS):
            counts[-1] += 1
        else:
            counts.append(1)
        last = reward
    return counts


def informative_share(counts: Sequence[int], group_size: int) -> float:
    """Return the share of subsets of `group_size` samples whose rewards are not all equal.

    Args:
        counts: Number of samples with each reward.
        group_size: At least 1, and at most the number of samples.

    Raises:
        ValueError: There are fewer samples than `group_size`.
    """
    total = sum(counts)
    if group_size > total:
        raise ValueError(f"a group of {group_size} needs {group_size} samples of a task, and there are {total}")
    return 1 - sum(math.comb(count, group_size) for count in counts) / math.comb(total, group_size)


def both_informative(counts: Sequence[int], group_size: int) -> float:
    """Return the share of pairs of disjoint subsets in which both are informative.

    Its expected value is the square of the task's share, so it tells the spread between tasks from that of the samples.

    Args:
        counts: Number of samples with each reward.
        group_size: At least 1, and at most half the number of samples.

    Raises:
        ValueError: There are fewer samples than two groups need.
    """
    total = sum(counts)
    if 2 * group_size > total:
        raise ValueError(f"two groups of {group_size} need {2 * group_size} samples of a task, and there are {total}")
    pairs = math.comb(total, group_size) * math.comb(total - group_size, group_size)
    both_equal = sum(
        math.comb(one, group_size) * math.comb(other - group_size * (place == at), group_size)
        for place, one in enumerate(counts)
        if one >= group_size
        for at, other in enumerate(counts)
        if other - group_size * (place == at) >= group_size
    )
    return 1 - 2 * (1 - informative_share(counts, group_size)) + both_equal / pairs


def between_tasks(counts: Sequence[Sequence[int]], group_size: int) -> float | None:
    """Return the variance of the tasks' true shares; None if some task has too few samples for two groups, or alone.

    Args:
        counts: For each task, the number of samples with each reward.
        group_size: Size of a group.
    """
    if len(counts) < 2 or any(sum(of_task) < 2 * group_size for of_task in counts):
        return None
    shares = [informative_share(of_task, group_size) for of_task in counts]
    squares = fmean(both_informative(of_task, group_size) for of_task in counts)
    return max(0.0, squares - fmean(shares) ** 2 + variance(shares) / len(shares))


def predicted_share(
    shares: Mapping[str, float], visits: Mapping[str, int], *, between: float | None
) -> tuple[float, float]:
    """Return the 95% prediction interval for the share of informative groups that a run sees, its policy unchanged.

    The run's share differs from the estimated one because the estimate has an error, because the run visits other
    tasks, and because its groups are few. Tasks in both reduce the difference. The interval is Wilson's, with the
    number of groups whose binomial variance equals the variance of the difference.

    Args:
        shares: Estimated share of each sampled task.
        visits: Number of groups of each task in the run.
        between: Result of `between_tasks`; None ignores that tasks are in both, which widens the interval.
    """
    num_tasks, num_groups = len(shares), sum(visits.values())
    mean = fmean(shares.values())
    spread = mean * (1 - mean)
    own = variance(shares.values()) if num_tasks > 1 else spread
    repeats = sum((count / num_groups) ** 2 for count in visits.values())
    of_run = spread / num_groups + (own if between is None else between) * (repeats - 1 / num_groups)
    common = sum(count for task, count in visits.items() if task in shares) / num_groups
    total = own / num_tasks + of_run - 2 * (between or 0.0) * common / num_tasks
    few = 1 / (1 / num_tasks + 1 / num_groups)
    effective = spread / total if spread > 0 and total > 0 else few
    return wilson(mean, effective)


def wilson(share: float, number: float) -> tuple[float, float]:
    """Return the 95% interval of a share of `number` outcomes (Wilson, JASA 22:209, 1927)."""
    shrink = 1 + Z * Z / number
    centre = (share + Z * Z / (2 * number)) / shrink
    half_width = Z / shrink * math.sqrt(share * (1 - share) / number + Z * Z / (4 * number * number))
    return max(0.0, centre - half_width), min(1.0, centre + half_width)
