"""Means with their 95% confidence intervals: the one place where rft does statistics. Pure.

The unit is the task: a task that was sampled several times counts once, with the mean of its completions, because
completions of one task are not independent of each other.

Formulas:
    Wilson interval of a proportion: Wilson (1927), as `scipy.stats` has it. The textbook interval
    p +- 1.96 sqrt(p (1 - p) / n) is much too narrow below a few hundred tasks (Bowyer et al., arXiv 2503.01747).
    Paired difference, SE = sd(d) / sqrt(n): Miller, "Adding Error Bars to Evals", arXiv 2411.00640.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

UNIT = (0.0, 1.0)
"""The range that rewards are taken to lie in where the values themselves say nothing of their spread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over tasks and how far it can be trusted.

    Example:
        Estimate(mean=0.8, ci95=(0.490, 0.943), n=10)
    """

    mean: float
    """The mean over the tasks."""
    ci95: tuple[float, float] | None
    """Lower and upper end of its 95% confidence interval; None when so few values allow none."""
    n: int
    """How many tasks."""

    def text(self, *, signed: bool = False) -> str:
        """Three decimals, as `0.800 [0.490, 0.943]`; with `signed`, a plus sign before positive numbers."""
        form = "+.3f" if signed else ".3f"
        if self.ci95 is None:
            return f"{self.mean:{form}} [no interval]"
        return f"{self.mean:{form}} [{self.ci95[0]:{form}}, {self.ci95[1]:{form}}]"

    def to_json(self) -> dict[str, Any]:
        """As `{"mean": 0.8, "ci95": [0.49, 0.943], "n": 10}`; `ci95` is null when there is none."""
        return {"mean": self.mean, "ci95": None if self.ci95 is None else list(self.ci95), "n": self.n}

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> Estimate:
        """Read what `to_json` wrote."""
        ci95 = obj["ci95"]
        return cls(mean=obj["mean"], ci95=None if ci95 is None else (ci95[0], ci95[1]), n=obj["n"])

    def to_metrics(self, prefix: str) -> dict[str, float]:
        """For metrics.jsonl, as `{"eval/mean": 0.8, "eval/low": 0.49, "eval/high": 0.943}`."""
        ends = {} if self.ci95 is None else {f"{prefix}/low": self.ci95[0], f"{prefix}/high": self.ci95[1]}
        return {f"{prefix}/mean": self.mean, **ends}


def estimate(values: Sequence[float]) -> Estimate:
    """Mean with its 95% interval: Wilson's when all values are 0 or 1, otherwise Student's t.

    A single value that is neither 0 nor 1 has no interval. See `_t_interval` for values that are all the same.

    Args:
        values: One per task.

    Raises:
        ValueError: There is no value, or one is not finite.
    """
    _check(values)
    if all(value in UNIT for value in values):
        ci95: tuple[float, float] | None = _wilson(round(math.fsum(values)), len(values))
    else:
        ci95 = _t_interval(values, UNIT)
    return Estimate(mean=fmean(values), ci95=ci95, n=len(values))


def paired_difference(before: Mapping[str, float], after: Mapping[str, float]) -> Estimate:
    """Mean of after minus before over the tasks that are in both, with the t interval of the differences.

    Comparing task by task takes the difficulty of the tasks out of the comparison, so that the interval is narrower
    than that of two separate means. It speaks of tasks like these, not of other training runs.

    Args:
        before: Value by task id.
        after: Value by task id.

    Raises:
        ValueError: No task is in both, or a value is not finite.
    """
    common = [task_id for task_id in before if task_id in after]
    if not common:
        raise ValueError(
            f"before ({len(before)} tasks) and after ({len(after)} tasks) have no task in common: nothing can be paired"
        )
    pairs = [(before[task_id], after[task_id]) for task_id in common]
    _check([value for pair in pairs for value in pair])
    differences = [later - earlier for earlier, later in pairs]
    in_unit = all(UNIT[0] <= value <= UNIT[1] for pair in pairs for value in pair)
    return Estimate(
        mean=fmean(differences), ci95=_t_interval(differences, (-1.0, 1.0) if in_unit else None), n=len(common)
    )


def _check(values: Sequence[float]) -> None:
    """Refuse no values, and values that are not finite."""
    if not values:
        raise ValueError("there is no value to take the mean of")
    if not all(math.isfinite(value) for value in values):
        raise ValueError("a mean is taken of finite values only; leave out tasks without a reward")


def _t_interval(values: Sequence[float], bounds: tuple[float, float] | None) -> tuple[float, float] | None:
    """Student's t interval of the mean, or None for a single value.

    Values that are all the same have no spread, and the t interval would have no width: a false certainty when there
    are few. Then it is instead supposed that up to a share q of all tasks may lie elsewhere within `bounds`, where q is
    the upper end of Wilson's interval of 0 tasks in n. Without bounds, or outside of them, there is no interval.
    """
    n, mean = len(values), fmean(values)
    if n == 1:
        return None
    if max(values) - min(values) < 1e-9:  # the same but for rounding
        if bounds is None or not bounds[0] <= mean <= bounds[1]:
            return None
        share = _wilson(0, n)[1]
        return mean - share * (mean - bounds[0]), mean + share * (bounds[1] - mean)
    from scipy import stats  # takes a second to import

    half_width = float(stats.t.ppf(0.975, n - 1)) * stdev(values) / math.sqrt(n)
    return mean - half_width, mean + half_width


def _wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a proportion."""
    from scipy import stats  # takes a second to import

    interval = stats.binomtest(successes, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)
