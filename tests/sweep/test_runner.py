"""What the measurements of a trial lead to."""

from __future__ import annotations

import pytest

from rft.events import Measured, Notice
from rft.metrics.intervals import Estimate
from rft.sweep.runner import ValidationSink


@pytest.mark.parametrize(("means", "is_pruned"), [((0.5, 0.6), False), ((0.5, 0.4), True)])
def test_a_trial_is_pruned_when_the_search_gives_it_up(means: tuple[float, ...], is_pruned: bool) -> None:
    said: list[str] = []
    sink = ValidationSink(said.append, lambda step, estimate: estimate.mean >= step / 4)
    sink.event(Notice(text="not a measurement"))
    sink.event(Measured(phase="before", step=0, estimate=Estimate(mean=-1.0, ci95=None, n=2), groups=()))
    for step, mean in enumerate(means, 1):
        estimate = Estimate(mean=mean, ci95=None, n=2)
        sink.event(Measured(phase="validation", step=step, estimate=estimate, groups=()))
    assert sink.is_pruned == is_pruned
    assert [line[:19] for line in said] == ["step 1: validation ", "step 2: validation "]


def test_without_a_search_no_trial_is_pruned() -> None:
    sink = ValidationSink(lambda text: None, None)
    sink.event(Measured(phase="validation", step=1, estimate=Estimate(mean=-9.0, ci95=None, n=2), groups=()))
    assert not sink.is_pruned
