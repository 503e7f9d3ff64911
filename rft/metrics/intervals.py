"""Means with 95% confidence intervals. This module contains all statistics of rft; its functions are pure.

The unit is the task. A task with several completions counts once, with their mean, because completions of one task are
not independent.

For scores within known bounds, the interval is

- **adjusted Wald** if all scores are at the bounds, for paired differences between such scores, and while fewer than 10
  tasks differ from the rest. It is the normal interval of the values and a few pseudo-values at either bound. For a
  proportion, it is the interval of Agresti and Coull (1998), with z^2 / 2 pseudo-values at 0 and at 1. For a difference
  of paired proportions, it is that of Bonett and Price (2012), with one pseudo-value at -1 and one at +1. The interval
  of Agresti and Min (2005) adds one half each; Bonett and Price's also covers at least 93% if only two or three tasks
  changed.
- **the wider of Student's t and the studentized bootstrap** (Efron and Tibshirani 1993, section 12.5), at each end, for
  all other scores. The t interval is too narrow for skewed scores; the bootstrap follows their skewness.

No interval leaves the bounds. `benchmarks/interval_coverage.py` measures the coverage of each interval. Miller, "Adding
Error Bars to Evals" (arXiv 2411.00640), explains why differences are paired by task.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import NormalDist, fmean, stdev
from typing import Any

UNIT = (0.0, 1.0)
"""Default range of a score."""
Z = NormalDist().inv_cdf(0.975)
"""The 97.5% point of the normal distribution."""
ROUNDING = 1e-9
MIN_DIFFERENT = 10
"""With fewer values that differ from the most common one, the sample spread is unreliable."""
NUM_RESAMPLES = 1999
"""Number of bootstrap samples. Their seed is fixed, so equal scores always have equal intervals."""
RESAMPLED_AT_ONCE = 2_000_000
"""Values held in memory at a time."""
FEW_TASKS = 100
LARGE_SKEWNESS = 1.5
"""Below `FEW_TASKS` tasks, scores with a larger sample skewness get a caveat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over tasks with its confidence interval.

    Example:
        Estimate(mean=0.8, ci95=(0.479, 0.954), n=10)
    """

    mean: float
    """Mean over the tasks."""
    ci95: tuple[float, float] | None
    """Lower and upper end of the 95% confidence interval; None if the values do not allow an interval."""
    n: int
    """Number of tasks."""
    caveat: str | None = None
    """Reason why the interval may cover the true mean less than 95% of the time, or None."""

    def text(self, *, signed: bool = False) -> str:
        """Format with three decimals: `0.800 [0.479, 0.954]`; `signed` adds a plus sign to positive numbers."""
        form = "+.3f" if signed else ".3f"
        if self.ci95 is None:
            return f"{self.mean:{form}} [no interval]"
        return f"{self.mean:{form}} [{self.ci95[0]:{form}}, {self.ci95[1]:{form}}]"

    def to_json(self) -> dict[str, Any]:
        """Return `{"mean": 0.8, "ci95": [0.479, 0.954], "n": 10, "caveat": null}`; `ci95` may be null."""
        ci95 = None if self.ci95 is None else list(self.ci95)
        return {"mean": self.mean, "ci95": ci95, "n": self.n, "caveat": self.caveat}

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> Estimate:
        """Read the result of `to_json`; `caveat` may be missing."""
        ci95 = obj["ci95"]
        return cls(
            mean=obj["mean"],
            ci95=None if ci95 is None else (ci95[0], ci95[1]),
            n=obj["n"],
            caveat=obj.get("caveat"),
        )

    def to_metrics(self, prefix: str) -> dict[str, float]:
        """Return entries for metrics.jsonl: `{"eval/mean": 0.8, "eval/low": 0.479, "eval/high": 0.954}`."""
        ends = {} if self.ci95 is None else {f"{prefix}/low": self.ci95[0], f"{prefix}/high": self.ci95[1]}
        return {f"{prefix}/mean": self.mean, **ends}


def estimate(values: Sequence[float], *, bounds: tuple[float, float] = UNIT) -> Estimate:
    """Estimate a mean with its 95% interval, as described for the module.

    Args:
        values: One per task.
        bounds: Lowest and highest possible value. If values lie outside, the interval ignores the bounds.

    Raises:
        ValueError: There are no values, or a value is not finite.
    """
    _check(values)
    # z^2 / 2 successes and as many failures: Agresti and Coull.
    held = bounds if _within(values, bounds) else None
    return _estimate(values, held, _at_ends(values, bounds), num_pseudo=Z * Z / 2)


def paired_difference(
    before: Mapping[str, float], after: Mapping[str, float], *, bounds: tuple[float, float] = UNIT
) -> Estimate:
    """Estimate the mean of after minus before over common tasks, with its 95% interval.

    Comparing task by task takes the difficulty of the tasks out of the comparison, so that the interval is narrower
    than that of two separate means. It speaks of tasks like these, not of other training runs.

    Args:
        before: Value by task id.
        after: Value by task id.
        bounds: Lowest and highest possible value. Values outside show that there are no such bounds.

    Raises:
        ValueError: No task is in both, or a value is not finite.
    """
    common = [task_id for task_id in before if task_id in after]
    if not common:
        raise ValueError(
            f"before ({len(before)} tasks) and after ({len(after)} tasks) have no task in common: nothing can be paired"
        )
    values = [value for task_id in common for value in (before[task_id], after[task_id])]
    _check(values)
    width = bounds[1] - bounds[0]
    differences = [after[task_id] - before[task_id] for task_id in common]
    # One more task that was lost and one more that was won: Bonett and Price.
    held = (-width, width) if _within(values, bounds) else None
    return _estimate(differences, held, _at_ends(values, bounds), num_pseudo=1.0)


def mean_of_estimates(estimates: Sequence[Estimate]) -> Estimate:
    """Estimate the mean of several independent means, each with the same weight.

    The interval recovers the variance of each mean from its own interval, end by end (Zou and Donner 2008, Statistics
    in Medicine 27:1693), so skewed intervals stay skewed.

    Args:
        estimates: Means over different tasks, at least one.
    """
    mean = fmean(each.mean for each in estimates)
    ends = [(each.mean, each.ci95) for each in estimates]
    ci95 = None
    if all(ci is not None for _, ci in ends):
        below = math.hypot(*(center - ci[0] for center, ci in ends if ci)) / len(ends)
        above = math.hypot(*(ci[1] - center for center, ci in ends if ci)) / len(ends)
        ci95 = mean - below, mean + above
    caveat = next((each.caveat for each in estimates if each.caveat), None)
    return Estimate(mean=mean, ci95=ci95, n=sum(each.n for each in estimates), caveat=caveat)


def mean_difference(before: Sequence[float], after: Sequence[float], *, num_comparisons: int = 1) -> Estimate:
    """Estimate the mean of `after` minus the mean of `before`, two samples without pairs (Welch 1947).

    Args:
        before: At least one value.
        after: At least one value. With fewer than two values in a sample there is no interval.
        num_comparisons: Number of comparisons whose intervals shall hold together (Bonferroni).

    Returns:
        The estimate; `n` counts the values of both samples.

    Raises:
        ValueError: A sample is empty, or a value is not finite.
    """
    _check(before)
    _check(after)
    mean, n = fmean(after) - fmean(before), len(before) + len(after)
    if min(len(before), len(after)) < 2:
        return Estimate(mean=mean, ci95=None, n=n)
    one, other = (stdev(sample) ** 2 / len(sample) for sample in (before, after))
    total = one + other
    if total == 0:
        return Estimate(mean=mean, ci95=(mean, mean), n=n)
    freedom = total**2 / (one**2 / (len(before) - 1) + other**2 / (len(after) - 1))
    half_width = _student(max(1, int(freedom + ROUNDING)) + 1, num_comparisons) * math.sqrt(total)
    return Estimate(mean=mean, ci95=(mean - half_width, mean + half_width), n=n)


def over_runs(values: Sequence[float]) -> Estimate:
    """Estimate a mean over training runs, such as those of several seeds (Student's t).

    Args:
        values: One per run. With a single one there is no interval.

    Raises:
        ValueError: There are no values, or a value is not finite.
    """
    _check(values)
    mean, n = fmean(values), len(values)
    if n < 2:
        return Estimate(mean=mean, ci95=None, n=n)
    half_width = _student(n) * stdev(values) / math.sqrt(n)
    return Estimate(mean=mean, ci95=(mean - half_width, mean + half_width), n=n)


def simultaneous(one: Estimate, *, num_comparisons: int) -> Estimate:
    """Widen an interval so that it holds although its comparison was chosen among several (Bonferroni).

    Each end moves away from the mean by the ratio of the normal quantiles.

    Args:
        one: The chosen estimate.
        num_comparisons: Number of estimates to choose from, at least 1.
    """
    if one.ci95 is None:
        return one
    factor = NormalDist().inv_cdf(1 - 0.025 / num_comparisons) / Z
    low, high = (one.mean + factor * (end - one.mean) for end in one.ci95)
    return replace(one, ci95=(low, high))


def _check(values: Sequence[float]) -> None:
    """Refuse no values, and values that are not finite."""
    if not values:
        raise ValueError("there is no value to take the mean of")
    if not all(math.isfinite(value) for value in values):
        raise ValueError("a mean is taken of finite values only; leave out tasks without a reward")


def _within(values: Sequence[float], bounds: tuple[float, float]) -> bool:
    """Whether all values lie within the bounds, but for rounding."""
    return bounds[0] - ROUNDING <= min(values) and max(values) <= bounds[1] + ROUNDING


def _at_ends(values: Sequence[float], bounds: tuple[float, float]) -> bool:
    """Whether each value is one of the bounds, but for rounding."""
    return all(min(abs(value - bound) for bound in bounds) <= ROUNDING for value in values)


def _estimate(
    values: Sequence[float], bounds: tuple[float, float] | None, at_bounds: bool, *, num_pseudo: float
) -> Estimate:
    """Choose the interval. `at_bounds`: each score is at one of its bounds."""
    n, mean = len(values), fmean(values)
    num_different = n - Counter(round(value, 9) for value in values).most_common(1)[0][1]
    ci95: tuple[float, float] | None = None
    caveat = None
    if bounds is not None and (at_bounds or num_different < MIN_DIFFERENT):
        ci95 = _adjusted_wald(values, bounds, num_pseudo)
    elif num_different >= MIN_DIFFERENT:
        ci95 = _skewed_interval(values)
        if bounds is not None:
            ci95 = max(ci95[0], bounds[0]), min(ci95[1], bounds[1])
        if n < FEW_TASKS and abs(_skewness(values)) > LARGE_SKEWNESS:
            caveat = f"the scores are skewed, and {n} tasks are few for that: the interval may be too narrow"
    elif num_different > 0:
        half_width = _student(n) * stdev(values) / math.sqrt(n)
        ci95 = mean - half_width, mean + half_width
        few = f"only {num_different} of {n} tasks differ from the others"
        caveat = f"{few}, and the scores have no known range: the interval may be too narrow"
    return Estimate(mean=mean, ci95=ci95, n=n, caveat=caveat)


@cache
def _student(n: int, num_comparisons: int = 1) -> float:
    """The 97.5% point of Student's t with n - 1 degrees of freedom, correctly rounded.

    With several comparisons, each has its part of the 5% outside.
    """
    import mpmath  # not SciPy: this is the one number that the core would need it for, and its wheel has 37 MB

    exact = mpmath.mp.clone()  # a context of its own: others may compute in other threads
    exact.dps = 30
    freedom, both_tails = exact.mpf(n - 1), exact.mpf("0.05") / num_comparisons

    def excess(t: Any) -> Any:
        """P(|T| > t) - 5%, by the regularized incomplete beta function (Abramowitz and Stegun 26.5.27)."""
        return exact.betainc(freedom / 2, 0.5, 0, freedom / (freedom + t * t), regularized=True) - both_tails

    return float(
        exact.findroot(excess, (Z - 0.1, 13.0 * num_comparisons), solver="anderson")
    )  # 12.7 with one degree of freedom


def _adjusted_wald(values: Sequence[float], bounds: tuple[float, float], num_pseudo: float) -> tuple[float, float]:
    """Normal interval of the values and of `num_pseudo` more at either bound, cut at the bounds."""
    low, high = bounds
    total = len(values) + 2 * num_pseudo
    centre = (math.fsum(values) + num_pseudo * (low + high)) / total
    squares = math.fsum((value - centre) ** 2 for value in values)
    squares += num_pseudo * ((low - centre) ** 2 + (high - centre) ** 2)
    half_width = Z * math.sqrt(squares) / total
    return max(low, centre - half_width), min(high, centre + half_width)


def _skewed_interval(values: Sequence[float]) -> tuple[float, float]:
    """The wider of Student's t and the studentized bootstrap, end by end."""
    import numpy as np

    sample = np.asarray(values, dtype=np.float64)
    n, mean = len(sample), float(sample.mean())
    standard_error = float(sample.std(ddof=1)) / math.sqrt(n)
    random = np.random.default_rng(0)
    chunk = max(1, RESAMPLED_AT_ONCE // n)
    ratios = []
    for first in range(0, NUM_RESAMPLES, chunk):
        drawn = sample[random.integers(0, n, (min(chunk, NUM_RESAMPLES - first), n))]
        shift, errors = drawn.mean(axis=1) - mean, drawn.std(axis=1, ddof=1) / math.sqrt(n)
        # A bootstrap sample of equal values has no spread: it says that the mean may lie anywhere on that side.
        has_spread = errors > 1e-9 * standard_error
        ratios.append(np.where(has_spread, shift / np.where(has_spread, errors, 1.0), np.copysign(np.inf, shift)))
    low, high = np.quantile(np.concatenate(ratios), (0.025, 0.975), method="inverted_cdf")
    student = _student(n)
    return mean - max(float(high), student) * standard_error, mean - min(float(low), -student) * standard_error


def _skewness(values: Sequence[float]) -> float:
    """Third standardized moment of the sample."""
    mean = fmean(values)
    variance = fmean([(value - mean) ** 2 for value in values])
    third = fmean([(value - mean) ** 3 for value in values])
    return float(third / variance**1.5)
