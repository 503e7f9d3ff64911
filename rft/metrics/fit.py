"""Over- and underfitting in words, from the measurements that a run recorded. Pure.

The verdict compares the last measurement of the validation tasks with the best one, with the one in the middle and with
the first, task by task. A claim needs a whole 95% interval on one side of zero. The best measurement is chosen among
several because it is high, so its interval is widened accordingly. The training curve then tells overfitting from a run
that became worse in training, too.

That training improved and the validation tasks did not is no proof of memorised tasks: the steps before the first
measurement belong to the training curve, and what they learned is in that measurement already. The claim therefore also
needs a gap at the end, training better than validation, of half of what training gained.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from rft.metrics.intervals import Estimate, mean_difference, paired_difference, simultaneous

Verdict = Literal["overfit", "worse", "still improving", "level", "training only", "no change"]

MAX_WINDOW_STEPS = 20
"""Largest number of training steps to average at either end of a comparison."""
LOSS = "learner/loss"
CARRIED_SHARE = 0.5
"""Share of the gain in training that validation tasks must miss before rft says that it does not carry over."""
UNBOUNDED = (math.inf, -math.inf)
"""Bounds of values without a known range."""
CHANGES: tuple[Verdict, ...] = ("overfit", "worse", "still improving")
"""Verdicts on the last part of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCurve:
    """A number of the training steps.

    Example:
        TrainingCurve(name="training reward", by_step={1: 0.1, 2: 0.3}, sign=1)
    """

    name: str
    """Name in the verdict."""
    by_step: Mapping[int, float]
    """Value of each step, from 1."""
    sign: Literal[1, -1]
    """1 if a higher value is better, -1 for a loss."""

    def change(self, since: int, until: int, *, max_window: int = MAX_WINDOW_STEPS) -> Estimate | None:
        """Estimate the mean of the last steps up to `until` minus that of the steps around `since`; None without steps.

        The earlier steps end at `since`, or begin with step 1. The two windows do not overlap, and have up to
        `max_window` steps each.
        """
        size = min(max_window, max(1, (until - since) // 2))
        first = max(1, since - size + 1)
        early = [self.by_step[step] for step in range(first, first + size) if step in self.by_step]
        late = self._last(until, size)
        return mean_difference(early, late) if early and late else None

    def gap(self, since: int, until: int, validation: Sequence[float]) -> Estimate | None:
        """Estimate the mean of the last steps up to `until` minus that of validation tasks; None without steps.

        The steps are the later ones of `change`. The tasks differ, so the two samples are not paired.
        """
        late = self._last(until, min(MAX_WINDOW_STEPS, max(1, (until - since) // 2)))
        return mean_difference(validation, late) if late else None

    def _last(self, until: int, size: int) -> list[float]:
        return [self.by_step[step] for step in range(until - size + 1, until + 1) if step in self.by_step]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The verdict on a run.

    Example:
        Fit(verdict="overfit", since=40, text="overfit from step 40: ...", validation=Estimate(...), training=None)
    """

    verdict: Verdict
    """The verdict."""
    since: int
    """Step of the measurement with which the last one is compared."""
    text: str
    """The verdict with its numbers, in one sentence."""
    validation: Estimate
    """Change of the validation tasks since then, paired by task."""
    training: Estimate | None
    """Change of the training curve since then; None without one."""

    def to_json(self) -> dict[str, Any]:
        """Return the entry of summary.json."""
        return {
            "verdict": self.verdict,
            "since": self.since,
            "text": self.text,
            "validation": self.validation.to_json(),
            "training": None if self.training is None else self.training.to_json(),
        }


def training_curve(lines: Sequence[Mapping[str, Any]], metric: str) -> TrainingCurve:
    """Return the training curve of a run: the measured metric, or the loss of a run that samples nothing.

    Args:
        lines: Lines of metrics.jsonl.
        metric: The metric of the measurements: `reward`, or the name of a grader.
    """
    name = "reward/mean" if metric == "reward" else f"score/{metric}"
    steps = {line["step"]: line["metrics"] for line in lines if line["step"] > 0}
    scores = {step: value for step, metrics in steps.items() if (value := metrics.get(name)) is not None}
    if scores:
        return TrainingCurve(name=f"training {metric}", by_step=scores, sign=1)
    return loss_curve(lines)


def loss_curve(lines: Iterable[Mapping[str, Any]]) -> TrainingCurve:
    """Return the loss of the training steps. Arguments like `training_curve`."""
    steps = {line["step"]: line["metrics"] for line in lines if line["step"] > 0}
    losses = {step: value for step, metrics in steps.items() if (value := metrics.get(LOSS)) is not None}
    return TrainingCurve(name="training loss", by_step=losses, sign=-1)


def fit_of(
    validation: Mapping[int, Mapping[str, float]],
    training: TrainingCurve,
    *,
    bounds: tuple[float, float],
    is_loss: bool = False,
) -> Fit | None:
    """Return the verdict on a run; None with fewer than two measurements of the same tasks.

    Args:
        validation: For each measured step, the value of each validation task by id.
        training: The training curve.
        bounds: Lowest and highest possible value of a task.
        is_loss: Whether the values are losses, of which lower ones are better.
    """
    measured = {step: of_step for step, of_step in validation.items() if of_step}
    tasks = frozenset.intersection(*map(frozenset, measured.values())) if measured else frozenset()
    if len(measured) < 2 or not tasks:
        return None
    changes = _Changes(validation=measured, training=training, tasks=tasks, bounds=bounds, is_loss=is_loss)
    return changes.fall() or changes.rise()


def fit_of_both(score: Fit | None, loss: Fit | None, *, by_loss: bool) -> Fit | None:
    """Return the verdict on a run whose validation tasks have scores and losses.

    The scores decide, because the run is for them. Where their intervals show no change at the end, the loss decides:
    it changes before the answers do.

    Args:
        score: The verdict of the scores.
        loss: The verdict of the losses.
        by_loss: Whether the loss decides anyway.
    """
    if loss is None or (score is not None and score.verdict in CHANGES and not by_loss):
        return score
    return loss if by_loss or score is None or loss.verdict != "no change" else score


@dataclass(frozen=True, slots=True, kw_only=True)
class _Changes:
    """The changes from earlier measurements to the last one."""

    validation: Mapping[int, Mapping[str, float]]
    training: TrainingCurve
    tasks: frozenset[str]
    bounds: tuple[float, float]
    is_loss: bool

    @property
    def first(self) -> int:
        return min(self.validation)

    @property
    def last(self) -> int:
        return max(self.validation)

    @property
    def middle(self) -> int:
        """The measurement nearest to the middle of the run, before the last one."""
        return min((step for step in self.validation if step < self.last), key=lambda step: abs(2 * step - self.last))

    @property
    def best(self) -> int:
        """The first of the best measurements."""
        means = {step: fmean(of_step[task] for task in self.tasks) for step, of_step in self.validation.items()}
        return max(means, key=lambda step: (self._better(means[step]), -step))

    def since(self, step: int) -> Estimate:
        before, after = ({task: self.validation[at][task] for task in sorted(self.tasks)} for at in (step, self.last))
        return paired_difference(before, after, bounds=self.bounds)

    def fall(self) -> Fit | None:
        """Return the verdict on validation tasks that became worse; None if no interval shows that."""
        chosen = simultaneous(self.since(self.best), num_comparisons=len(self.validation) - 1)
        others = [(step, self.since(step)) for step in (self.middle, self.first)]
        for step, change in [(self.best, chosen), *others]:
            if self._better(_sign(change)) < 0:
                return self._fallen(step, change)
        return None

    def _fallen(self, step: int, change: Estimate) -> Fit:
        training = self.training.change(step, self.last)
        numbers = f"{self._name} {change.text(signed=True)}{self._in_words(training)}"
        if training is not None and _sign(training) * self.training.sign < 0:
            text = f"worse since step {step}, in training, too: {numbers}; lower learner.learning_rate"
            return Fit(verdict="worse", since=step, text=text, validation=change, training=training)
        keeps = "evaluation.best_metric=loss with evaluation.patience" if self.is_loss else "evaluation.patience"
        text = f"overfit from step {step}: since then {numbers}; {keeps} keeps the best policy"
        return Fit(verdict="overfit", since=step, text=text, validation=change, training=training)

    def rise(self) -> Fit:
        """Return the verdict on validation tasks that did not become worse."""
        late, whole = self.since(self.middle), self.since(self.first)
        if self._better(_sign(late)) > 0:
            training = self.training.change(self.middle, self.last)
            numbers = f"{self._name} {late.text(signed=True)} since step {self.middle}{self._in_words(training)}"
            text = f"still improving at the end: {numbers}; more steps may help"
            return Fit(verdict="still improving", since=self.middle, text=text, validation=late, training=training)
        training = self.training.change(self.first, self.last)
        numbers = f"{self._name} {whole.text(signed=True)} since step {self.first}{self._in_words(training)}"
        verdict: Verdict = "no change"
        text = f"no change of the validation tasks that the interval can show: {numbers}"
        if self._better(_sign(whole)) > 0:
            verdict = "level"
            text = f"no further gain since step {self.middle} that the interval can show: {numbers}"
        elif training is not None and _sign(training) * self.training.sign > 0 and (gap := self._gap()) is not None:
            numbers += f"; at the end, {self.training.name} minus {self._name} is {gap.text(signed=True)}"
            text = f"no change of the validation tasks that the interval can show: {numbers}"
            if self._misses(training, whole, gap):
                verdict = "training only"
                text = f"better in training only: {numbers}: what is learned does not carry over to other tasks"
        return Fit(verdict=verdict, since=self.first, text=text, validation=whole, training=training)

    def _gap(self) -> Estimate | None:
        """Return training minus validation at the end; None if the two have different units."""
        if self.is_loss != (self.training.sign < 0):
            return None
        last = self.validation[self.last]
        return self.training.gap(self.first, self.last, [last[task] for task in sorted(self.tasks)])

    def _misses(self, training: Estimate, validation: Estimate, gap: Estimate) -> bool:
        """Whether the validation tasks miss at least half of what training gained, by their change and by the gap."""
        missed = CARRIED_SHARE * abs(training.mean)
        best = max(map(self._better, validation.ci95 or (math.inf,)))
        return best < missed and _sign(gap) * self.training.sign > 0 and abs(gap.mean) >= missed

    @property
    def _name(self) -> str:
        return "validation loss" if self.is_loss else "validation"

    def _better(self, value: float) -> float:
        """Return a value or change such that a higher one is better."""
        return -value if self.is_loss else value

    def _in_words(self, training: Estimate | None) -> str:
        return "" if training is None else f", {self.training.name} {training.text(signed=True)}"


def _sign(change: Estimate) -> int:
    """Return 1 or -1 if the whole interval lies above or below zero, otherwise 0."""
    if change.ci95 is None:
        return 0
    low, high = change.ci95
    return 1 if low > 0 else -1 if high < 0 else 0
