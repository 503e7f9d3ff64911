"""Over-optimisation during a run: the reward rises, and what it stands for does not.

Three rises are compared with what should follow them:

- the training reward, with the metric of the validation tasks: what is learned does not carry over;
- the training reward, with the score of the independent grader on the same completions: the reward is exploited;
- the reward of the validation tasks, with the score of the independent grader on the same completions.

A warning needs two intervals: the rise lies above zero, and what should follow contains zero or lies below it, with an
upper end below half of the rise. A wide interval therefore never warns. Both are in units of the range of the score,
because reward and grader may have different ones. What is nearly at its highest value cannot rise by much, so no more
than half of the room above it is asked of it, and nothing but not to fall where the room is small.

The watch uses only the metrics of the steps, so a resumed run that reads its own metrics again continues like an
uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rft.metrics.fit import TrainingCurve
from rft.metrics.intervals import Estimate, paired_difference

CHANGE = "eval_change"
"""Prefix of the metrics of a measurement: the change of the metric since the first measurement, paired by task."""
INDEPENDENT = "independent"
"""Prefix of the metrics of a measurement: mean of the independent grader over the validation tasks."""
INDEPENDENT_CHANGE = "independent_change"
"""Prefix of the metrics of a measurement: its change since the first measurement, paired by task."""

MIN_RISE = 0.15
"""Smallest rise that is looked at, as a share of the range."""
MIN_ROOM = 0.05
"""With less room to rise, as a share of the range, only a fall counts."""
KEPT_SHARE = 0.5
"""Part of a rise that should follow."""
WINDOW_STEPS = 10
"""Number of training steps to average at either end, where no measurement says since when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What the watch compares.

    Example:
        Watched(rewarded={"correct"}, reward_bounds=(0.0, 1.0), metric="reward", metric_bounds=(0.0, 1.0),
                independent="human", independent_bounds=(0.0, 1.0))
    """

    rewarded: Collection[str]
    """Names of the graders that enter the reward."""
    reward_bounds: tuple[float, float]
    """Lowest and highest possible reward."""
    metric: str
    """Metric of the validation tasks: `reward`, or the name of a grader."""
    metric_bounds: tuple[float, float]
    """Lowest and highest possible value of the metric."""
    independent: str | None = None
    """Name of the independent grader, if there is one."""
    independent_bounds: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest possible score of it."""

    def is_graded(self, metrics: Mapping[str, float]) -> bool:
        """Whether the reward of a step is that of the graders, not that of a teacher."""
        return any(f"score/{name}" in metrics for name in self.rewarded)


class ValidationChanges:
    """The changes of validation tasks since the first measurement of a run, as metrics.

    Args:
        watched: What the watch compares.
    """

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._first: Mapping[str, float] | None = None
        self._first_independent: Mapping[str, float] = {}

    def refer_to(self, by_task: Mapping[str, float], independent: Mapping[str, float]) -> None:
        """Set the first measurement: the metric and the score of the independent grader by task id."""
        self._first, self._first_independent = by_task, independent

    def observe(self, by_task: Mapping[str, float], independent: Mapping[str, float]) -> dict[str, float]:
        """Return the metrics of a measurement; no change for the first one. Arguments like `refer_to`."""
        if self._first is None:
            self.refer_to(by_task, independent)
            return {}
        changes = [
            (CHANGE, self._first, by_task, self._watched.metric_bounds),
            (INDEPENDENT_CHANGE, self._first_independent, independent, self._watched.independent_bounds),
        ]
        metrics: dict[str, float] = {}
        for prefix, before, now, bounds in changes:
            if before.keys() & now.keys():
                change = paired_difference(before, now, bounds=bounds)
                metrics |= change.to_metrics(prefix) | {f"{prefix}/tasks": float(change.n)}
        return metrics


class OverOptimizationWatch:
    """Warns once of each kind of over-optimisation, and again after a recovery.

    Args:
        watched: What the watch compares.
    """

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._rewards: dict[int, float] = {}
        self._scores: dict[int, float] = {}
        self._reward = TrainingCurve(name="training reward", by_step=self._rewards, sign=1)
        self._score = TrainingCurve(name="independent grader", by_step=self._scores, sign=1)
        self._first: tuple[int, Mapping[str, float]] | None = None
        """Step and metrics of the first measurement."""
        self._astray: set[str] = set()

    def read(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Read the step lines of a resumed run's metrics.jsonl."""
        for line in lines:
            self.observe(line["step"], {name: value for name, value in line["metrics"].items() if value is not None})

    def observe(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """Observe all metrics of a step, including those of its measurement; return the warnings."""
        watched = self._watched
        if (reward := metrics.get("reward/mean")) is not None and watched.is_graded(metrics):
            self._rewards[step] = reward
        if watched.independent and (score := metrics.get(f"score/{watched.independent}")) is not None:
            self._scores[step] = score
        if self._first is None and "eval/mean" in metrics:
            self._first = step, metrics
        checks = {"training": self._in_training(step)}
        if (change := _read(metrics, CHANGE)) is not None and self._first is not None:
            since, first = self._first
            checks["carries over"] = self._carries_over(since, step, change, first)
            checks["validation"] = self._on_validation(since, change, _read(metrics, INDEPENDENT_CHANGE), first)
        warnings = [text for name, text in checks.items() if text and name not in self._astray]
        self._astray = {name for name in self._astray if name not in checks}
        self._astray |= {name for name, text in checks.items() if text}
        return warnings

    def _in_training(self, step: int) -> str:
        """Compare reward and independent grader on the completions of the training steps."""
        watched = self._watched
        if len(self._scores) < 2 * WINDOW_STEPS:
            return ""
        since = min(self._scores) + WINDOW_STEPS - 1
        early = [self._scores[at] for at in sorted(self._scores)[:WINDOW_STEPS]]
        rise, follow = (curve.change(since, step, max_window=WINDOW_STEPS) for curve in (self._reward, self._score))
        if rise is None or follow is None:
            return ""
        room = watched.independent_bounds[1] - sum(early) / len(early)
        if not _stays_behind(rise, watched.reward_bounds, follow, watched.independent_bounds, room):
            return ""
        return self._exploited(
            f"the training reward has changed by {rise.text(signed=True)} since the first {WINDOW_STEPS} steps", follow
        )

    def _carries_over(self, since: int, step: int, change: Estimate, first: Mapping[str, float]) -> str:
        """Compare the training reward with the metric of the validation tasks."""
        watched = self._watched
        rise = self._reward.change(since, step)
        room = watched.metric_bounds[1] - first["eval/mean"]
        if rise is None or not _stays_behind(rise, watched.reward_bounds, change, watched.metric_bounds, room):
            return ""
        return (
            f"the training reward has changed by {rise.text(signed=True)} since step {since}, and {watched.metric} of "
            f"the validation tasks by {change.text(signed=True)}: what is learned does not carry over to other tasks. "
            "Use more training tasks or fewer steps; evaluation.patience keeps the best policy"
        )

    def _on_validation(self, since: int, rise: Estimate, follow: Estimate | None, first: Mapping[str, float]) -> str:
        """Compare the metric and the independent grader on the validation tasks."""
        watched = self._watched
        start = first.get(f"{INDEPENDENT}/mean")
        if watched.independent is None or follow is None or start is None:
            return ""
        room = watched.independent_bounds[1] - start
        if not _stays_behind(rise, watched.metric_bounds, follow, watched.independent_bounds, room):
            return ""
        text = f"{watched.metric} of the validation tasks has changed by {rise.text(signed=True)} since step {since}"
        return self._exploited(text, follow)

    def _exploited(self, rise: str, follow: Estimate) -> str:
        name = self._watched.independent
        return (
            f"{rise}, and the independent grader '{name}' by {follow.text(signed=True)}: the policy may exploit a "
            f"grader that enters the reward. Read completions with a high reward and a low score of '{name}' in "
            "rollouts.jsonl, and test the graders with rft audit"
        )


def _stays_behind(
    rise: Estimate,
    rise_bounds: tuple[float, float],
    follow: Estimate,
    follow_bounds: tuple[float, float],
    room: float,
) -> bool:
    """Whether a rise is shown, and that what should follow it does not."""
    if rise.ci95 is None or follow.ci95 is None:
        return False
    rise, (low, high) = _in_range(rise, rise_bounds), _in_range(follow, follow_bounds).ci95 or (0.0, 0.0)
    if rise.ci95 is None or rise.ci95[0] <= 0 or rise.mean < MIN_RISE:
        return False
    expected = min(rise.mean, room / (follow_bounds[1] - follow_bounds[0]))
    return high < 0 or (low <= 0 and expected >= MIN_ROOM and high < KEPT_SHARE * expected)


def _in_range(change: Estimate, bounds: tuple[float, float]) -> Estimate:
    """Return a change as a share of the range."""
    width = bounds[1] - bounds[0]
    ci95 = None if change.ci95 is None else (change.ci95[0] / width, change.ci95[1] / width)
    return replace(change, mean=change.mean / width, ci95=ci95)


def _read(metrics: Mapping[str, float], prefix: str) -> Estimate | None:
    """Return the estimate of `Estimate.to_metrics`; None without one."""
    if (mean := metrics.get(f"{prefix}/mean")) is None:
        return None
    ends = metrics.get(f"{prefix}/low"), metrics.get(f"{prefix}/high")
    ci95 = None if ends[0] is None or ends[1] is None else (ends[0], ends[1])
    return Estimate(mean=mean, ci95=ci95, n=int(metrics.get(f"{prefix}/tasks", 0)))
