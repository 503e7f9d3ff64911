"""Compares measurements of the same tasks, or settings that several seeds have trained."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rft.evidence.measured import Measured
from rft.metrics.comparison import Comparison, Difference, compare
from rft.metrics.intervals import UNIT, Estimate, estimate, mean_difference, over_runs
from rft.metrics.significance import holm, is_binary, mcnemar, pass_at_k, sign_flips

SIGNIFICANT = 0.05
"""Largest p-value, corrected for the number of comparisons, that shows a difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """A difference with its test.

    Example:
        Tested(difference=Difference(...), test="McNemar", p_value=0.003, adjusted=0.009)
    """

    difference: Difference
    """The difference with its 95% interval."""
    test: str
    """`McNemar` for one outcome of 0 or 1 a task, `sign flips` for other values, or `Welch` between seeds."""
    p_value: float | None
    """Probability of a difference at least as large between equals; None if the test gives only the interval."""
    adjusted: float | None
    """The p-value that holds for all comparisons together (Holm)."""

    @property
    def verdict(self) -> str:
        """What is shown, in words."""
        one = self.difference
        ends = one.estimate.ci95
        shown = self.adjusted <= SIGNIFICANT if self.adjusted is not None else ends and not ends[0] <= 0 <= ends[1]
        if not shown:
            return "no difference is shown"
        return f"{one.after} is {'better' if one.estimate.mean > 0 else 'worse'} than {one.before}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The comparison by one metric.

    Example:
        Compared(metric="correct", unit="task", comparison=Comparison(...), tested=(Tested(...),), pass_at={1: {...}})
    """

    metric: str
    """`reward`, or the name of a grader."""
    unit: str
    """`task`, or `seed` if settings of several seeds are compared."""
    comparison: Comparison
    """Means and differences."""
    tested: tuple[Tested, ...]
    """The differences with their tests."""
    pass_at: Mapping[int, Mapping[str, Estimate]]
    """pass@k by k and name, if every sample is right or wrong and every task has at least k."""

    def to_json(self) -> dict[str, Any]:
        """Return the values as plain containers."""
        return {
            "metric": self.metric,
            "unit": self.unit,
            **self.comparison.to_json(),
            "tests": [
                {
                    "before": one.difference.before,
                    "after": one.difference.after,
                    "test": one.test,
                    "p": one.p_value,
                    "p_adjusted": one.adjusted,
                    "verdict": one.verdict,
                }
                for one in self.tested
            ],
            "pass_at": {
                str(k): {name: value.to_json() for name, value in own.items()} for k, own in self.pass_at.items()
            },
        }


def compare_measured(
    measured: Sequence[Measured], metric: str, *, ks: Sequence[int] = (), bounds: tuple[float, float] = UNIT
) -> Compared:
    """Compare single measurements, paired by task.

    A task with several samples counts once, with their mean, so the interval speaks of tasks (clustered errors).

    Args:
        measured: The measurements, each with the metric.
        metric: `reward`, or the name of a grader.
        ks: Numbers of attempts for pass@k.
        bounds: Lowest and highest possible value of the metric.
    """
    means = {
        one.name: {task: statistics.fmean(own) if own else None for task, own in one.samples[metric].items()}
        for one in measured
    }
    pairs = [*itertools.combinations(means, 2)]
    comparison = compare(means, pairs, bounds=bounds)
    common = [task for task in means[measured[0].name] if all(own.get(task) is not None for own in means.values())]
    tests = []
    for before, after in pairs if common else []:
        one, other = ({task: means[name][task] or 0.0 for task in common} for name in (before, after))
        is_single = is_binary([*one.values(), *other.values()])
        tests.append(("McNemar", mcnemar(one, other)) if is_single else ("sign flips", sign_flips(one, other)))
    adjusted = holm([p_value for _, p_value in tests])
    return Compared(
        metric=metric,
        unit="task",
        comparison=comparison,
        tested=tuple(
            Tested(difference=difference, test=test, p_value=p_value, adjusted=own)
            for difference, (test, p_value), own in zip(comparison.differences, tests, adjusted, strict=True)
        ),
        pass_at={k: own for k in ks if (own := _pass_at(measured, metric, k, common))},
    )


def _pass_at(measured: Sequence[Measured], metric: str, k: int, tasks: Sequence[str]) -> dict[str, Estimate]:
    """Return pass@k of each measurement; nothing unless all samples are right or wrong, and each task has k of them."""
    samples = {one.name: [one.samples[metric][task] for task in tasks] for one in measured}
    if not tasks or not all(len(own) >= k and is_binary(own) for every in samples.values() for own in every):
        return {}
    return {
        name: estimate([pass_at_k(len(own), own.count(1.0), k) for own in every]) for name, every in samples.items()
    }


def compare_settings(settings: Mapping[str, Sequence[Measured]], metric: str) -> Compared:
    """Compare settings, each trained with several seeds; the interval is over seeds, so it speaks of other runs.

    Args:
        settings: The measurements of each setting by its name, one for each seed.
        metric: `reward`, or the name of a grader.
    """
    values = {
        name: [{task: statistics.fmean(own) for task, own in one.samples[metric].items() if own} for one in runs]
        for name, runs in settings.items()
    }
    every = [own for runs in values.values() for own in runs]
    tasks = list(dict.fromkeys(task for runs in settings.values() for one in runs for task in one.samples[metric]))
    common = [task for task in tasks if all(task in own for own in every)]
    by_setting = {
        name: [statistics.fmean(own[task] for task in common) for own in runs]
        for name, runs in values.items()
        if common
    }
    pairs = [*itertools.combinations(by_setting, 2)]
    differences = tuple(
        Difference(
            before=before,
            after=after,
            estimate=_unless_equal(
                mean_difference(by_setting[before], by_setting[after], num_comparisons=len(pairs)),
                [by_setting[before], by_setting[after]],
            ),
        )
        for before, after in pairs
    )
    comparison = Comparison(
        means={name: _unless_equal(over_runs(own), [own]) for name, own in by_setting.items()},
        differences=differences,
        num_tasks=len(common),
        num_left_out=len(tasks) - len(common),
        left_out={name: sum(any(task not in own for own in runs) for task in tasks) for name, runs in values.items()},
    )
    tested = tuple(Tested(difference=one, test="Welch", p_value=None, adjusted=None) for one in differences)
    return Compared(metric=metric, unit="seed", comparison=comparison, tested=tested, pass_at={})


def _unless_equal(one: Estimate, samples: Sequence[Sequence[float]]) -> Estimate:
    """Return the estimate without its interval if the runs of each sample are equal: their spread is unknown."""
    if any(len(set(own)) > 1 for own in samples):
        return one
    return replace(one, ci95=None, caveat="all runs of a setting have the same mean, which shows no spread")
