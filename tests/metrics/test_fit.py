"""Over- and underfitting in words, of curves made by hand: 100 validation tasks of which some are right."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from rft.metrics.fit import LOSS, UNBOUNDED, Fit, TrainingCurve, fit_of, fit_of_both, training_curve
from rft.metrics.intervals import Estimate, mean_difference, simultaneous


def right(number: int) -> dict[str, float]:
    """The first tasks are right, the others are wrong."""
    return {f"task {index}": float(index < number) for index in range(100)}


def validation(*numbers: int) -> dict[int, dict[str, float]]:
    """Measurements after steps 10, 20, ..."""
    return {10 * place: right(number) for place, number in enumerate(numbers, start=1)}


def rising(last: int, slope: float = 0.01) -> TrainingCurve:
    """A reward that rises by `slope` a step, and wobbles by 0.01."""
    values = {step: slope * step + 0.01 * (-1) ** step for step in range(1, last + 1)}
    return TrainingCurve(name="training reward", by_step=values, sign=1)


def fit(measured: dict[int, dict[str, float]], training: TrainingCurve, bounds: Any = (0.0, 1.0)) -> Fit:
    verdict = fit_of(measured, training, bounds=bounds)
    assert verdict is not None
    return verdict


def test_overfit() -> None:
    verdict = fit(validation(30, 50, 70, 60, 50, 40), rising(60))
    assert (verdict.verdict, verdict.since) == ("overfit", 30)
    assert verdict.validation.mean == pytest.approx(-0.3)
    # Windows of 15 steps up to steps 30 and 60, so their means differ by 30 steps of 0.01.
    assert verdict.training is not None
    assert verdict.training.mean == pytest.approx(0.3)
    assert verdict.text.startswith("overfit from step 30: since then validation -0.300 [-0.4")
    assert ", training reward +0.3" in verdict.text


def test_worse_in_training_too() -> None:
    verdict = fit(validation(30, 50, 70, 60, 50, 40), rising(60, slope=-0.01))
    assert (verdict.verdict, verdict.since) == ("worse", 30)
    assert verdict.text.startswith("worse since step 30, in training, too: validation -0.300 [")
    losses = TrainingCurve(name="training loss", by_step=rising(60).by_step, sign=-1)
    assert fit(validation(30, 50, 70, 60, 50, 40), losses).verdict == "worse", "a loss that rises is worse"


def test_still_improving() -> None:
    verdict = fit(validation(10, 30, 50, 70), rising(40))
    assert (verdict.verdict, verdict.since) == ("still improving", 20)
    assert verdict.validation.mean == pytest.approx(0.4)
    assert verdict.text.startswith("still improving at the end: validation +0.400 [")


def test_level_after_a_gain() -> None:
    verdict = fit(validation(10, 60, 60, 61, 60, 61), rising(60))
    assert (verdict.verdict, verdict.since) == ("level", 10)
    assert verdict.text.startswith("no further gain since step 30 that the interval can show: validation +0.510 [")


def test_no_change_and_a_change_in_training_only() -> None:
    flat = rising(60, slope=0.0)
    verdict = fit(validation(50, 51, 52, 50, 51, 51), flat)
    assert verdict.verdict == "no change"
    assert verdict.text.startswith("no change of the validation tasks that the interval can show: validation +0.010 [")
    high = TrainingCurve(name="training reward", by_step={s: 0.4 + v for s, v in rising(60).by_step.items()}, sign=1)
    verdict = fit(validation(50, 51, 52, 50, 51, 51), high)
    assert (verdict.verdict, verdict.since) == ("training only", 10)
    assert verdict.text.startswith("better in training only: validation +0.010 [")
    # The last 20 steps have a mean of 0.4 + 0.505, the validation tasks one of 0.51.
    assert "; at the end, training reward minus validation is +0.395 [" in verdict.text
    assert verdict.text.endswith("]: what is learned does not carry over to other tasks")


def test_what_was_learned_before_the_first_measurement_carries_over() -> None:
    # Training rises from 0.1 to 0.9 in ten steps and stays there; validation has 0.91 at step 10 and keeps it.
    early = {step: min(0.9, 0.1 + 0.08 * step) + 0.01 * (-1) ** step for step in range(1, 41)}
    curve = TrainingCurve(name="training reward", by_step=early, sign=1)
    verdict = fit(validation(91, 92, 91, 92), curve)
    assert verdict.verdict == "no change" and verdict.training is not None
    assert verdict.training.ci95 is not None and verdict.training.ci95[0] > 0, "training has improved since step 10"
    # The last 15 steps: 0.9, and eight of them 0.01 above and seven below; minus 0.92.
    assert "; at the end, training reward minus validation is -0.019 [" in verdict.text
    assert "carry over" not in verdict.text
    # A training loss and validation scores have different units, so nothing can be said of a gap.
    losses_of_steps = TrainingCurve(name="training loss", by_step={s: 1 - v for s, v in early.items()}, sign=-1)
    verdict = fit(validation(91, 92, 91, 92), losses_of_steps)
    assert verdict.verdict == "no change" and "at the end" not in verdict.text


def test_the_best_of_many_measurements_must_stand_out_more() -> None:
    # 7 tasks lost of 100: with one comparison the interval of Bonett and Price is (-0.125, -0.013);
    # with nine, each end moves away from -0.07 by 2.773 / 1.960, beyond zero.
    two = fit({10: right(57), 20: right(50)}, rising(20))
    assert (two.verdict, two.since) == ("overfit", 10)
    many = validation(50, 50, 50, 57, 50, 50, 50, 50, 50, 50)
    assert fit(many, rising(100, slope=0.0)).verdict == "no change"


def test_the_first_and_the_middle_measurement_were_not_chosen() -> None:
    verdict = fit(validation(57, 57, 57, 50, 50, 50), rising(60))
    assert (verdict.verdict, verdict.since) == ("overfit", 30)


def test_what_cannot_be_compared_has_no_verdict() -> None:
    curve = TrainingCurve(name="training loss", by_step={}, sign=-1)
    assert fit_of({}, curve, bounds=(0, 1)) is None
    assert fit_of(validation(50), curve, bounds=(0, 1)) is None
    assert fit_of({10: {"a": 1.0}, 20: {"b": 1.0}}, curve, bounds=(0, 1)) is None
    assert fit_of({10: {"a": 1.0}, 20: {}}, curve, bounds=(0, 1)) is None
    verdict = fit({10: right(90), 20: right(30), 30: {}}, curve)
    assert (verdict.verdict, verdict.training) == ("overfit", None)
    assert ", training" not in verdict.text


def test_the_curve_of_a_run() -> None:
    lines = [
        {"step": 0, "metrics": {"before/mean": 0.1}},
        {"step": 1, "metrics": {"reward/mean": 0.2, "score/correct": 0.3, LOSS: 4.0}},
        {"step": 2, "metrics": {"reward/mean": None, "score/correct": 0.5, LOSS: 3.0}},
    ]
    assert training_curve(lines, "reward") == TrainingCurve(name="training reward", by_step={1: 0.2}, sign=1)
    assert training_curve(lines, "correct").by_step == {1: 0.3, 2: 0.5}
    losses = TrainingCurve(name="training loss", by_step={1: 4.0, 2: 3.0}, sign=-1)
    assert training_curve(lines, "other") == losses
    change = rising(4).change(0, 4)  # from 0.00 and 0.03 to 0.02 and 0.05
    assert change is not None
    assert (change.mean, change.n) == (pytest.approx(0.02), 4)
    assert losses.change(10, 20) is None


def test_the_difference_of_two_means_is_that_of_welch() -> None:
    before, after = [0.1, 0.4, 0.2, 0.35], [0.5, 0.7, 0.9]
    result = mean_difference(before, after)
    ours = [len(sample) for sample in (before, after)]
    variances = [float(np.var(sample, ddof=1)) / size for sample, size in zip((before, after), ours, strict=True)]
    freedom = int(sum(variances) ** 2 / sum(v**2 / (n - 1) for v, n in zip(variances, ours, strict=True)))
    half_width = float(stats.t.ppf(0.975, freedom)) * math.sqrt(sum(variances))
    assert result.ci95 == pytest.approx((result.mean - half_width, result.mean + half_width), abs=1e-9)
    assert (result.mean, result.n) == (pytest.approx(0.7 - 0.2625), 7)
    assert mean_difference([0.1], [0.2, 0.3]).ci95 is None
    assert mean_difference([0.1, 0.1], [0.3, 0.3]).ci95 == pytest.approx((0.2, 0.2))
    with pytest.raises(ValueError, match="no value"):
        mean_difference([], [0.1])


def test_a_chosen_interval_is_wider() -> None:
    one = Estimate(mean=0.5, ci95=(0.4, 0.7), n=9)
    assert simultaneous(one, num_comparisons=1).ci95 == pytest.approx((0.4, 0.7))
    factor = stats.norm.ppf(1 - 0.025 / 4) / stats.norm.ppf(0.975)
    assert simultaneous(one, num_comparisons=4).ci95 == pytest.approx((0.5 - 0.1 * factor, 0.5 + 0.2 * factor))
    assert simultaneous(Estimate(mean=0.5, ci95=None, n=1), num_comparisons=4).ci95 is None


def losses(*means: float) -> dict[int, dict[str, float]]:
    """Losses after steps 10, 20, ...: those of 100 tasks lie evenly within 0.1 of the mean."""
    return {
        10 * place: {f"task {index}": mean + (index - 49.5) / 500 * (1 + 0.1 * place) for index in range(100)}
        for place, mean in enumerate(means, start=1)
    }


def falling(last: int) -> TrainingCurve:
    return TrainingCurve(name="training loss", by_step={step: 2.0 - step / 100 for step in range(1, last + 1)}, sign=-1)


def test_a_loss_that_rises_is_overfit() -> None:
    verdict = fit_of(losses(1.0, 0.5, 0.6, 0.8), falling(40), bounds=UNBOUNDED, is_loss=True)
    assert verdict is not None
    assert (verdict.verdict, verdict.since) == ("overfit", 20)
    assert verdict.validation.mean == pytest.approx(0.3)
    assert verdict.text.startswith("overfit from step 20: since then validation loss +0.300 [")
    assert ", training loss -0." in verdict.text
    assert verdict.text.endswith("evaluation.best_metric=loss with evaluation.patience keeps the best policy")


def test_a_loss_that_falls_is_still_improving() -> None:
    verdict = fit_of(losses(1.0, 0.8, 0.6, 0.5), falling(40), bounds=UNBOUNDED, is_loss=True)
    assert verdict is not None
    assert (verdict.verdict, verdict.since) == ("still improving", 20)
    assert verdict.validation.mean == pytest.approx(-0.3)


def test_the_loss_decides_where_the_scores_show_nothing() -> None:
    rising_loss = fit_of(losses(0.5, 0.6, 0.8), falling(30), bounds=UNBOUNDED, is_loss=True)
    flat, better = fit(validation(50, 51, 50), falling(30)), fit(validation(10, 30, 60), falling(30))
    assert fit_of_both(flat, rising_loss, by_loss=False) == rising_loss
    assert fit_of_both(better, rising_loss, by_loss=False) == better
    assert fit_of_both(better, rising_loss, by_loss=True) == rising_loss
    assert fit_of_both(None, rising_loss, by_loss=False) == rising_loss
    assert fit_of_both(flat, None, by_loss=True) == flat
