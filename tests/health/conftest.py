"""A heartbeat whose clock goes when told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rft.events import RunStarted, StepFinished
from rft.health.heartbeat import Heartbeat
from rft.types import Policy, StepReport


class FakeClock:
    """A clock that goes when told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def beat(tmp_path: Path, clock: FakeClock) -> Heartbeat:
    """A heartbeat of the run folder `tmp_path`. Its thread never writes."""
    return Heartbeat(tmp_path, hide=lambda text: text.replace("hunter2", "***"), clock=clock, beat_s=1e6)


def _started(folder: Path, *, last_step: int = 0) -> RunStarted:
    return RunStarted(name="mine", folder=folder, config={}, steps=20, last_step=last_step)


@pytest.fixture
def started() -> Callable[..., RunStarted]:
    """`started(folder, last_step=6)`: the first event of a run of 20 steps."""
    return _started


def _finished(step: int, **metrics: float) -> StepFinished:
    named = {name.replace("__", "/"): value for name, value in metrics.items()}
    return StepFinished(
        report=StepReport(step=step, policy=Policy(version=step, fingerprint="f"), metrics=named, seconds={})
    )


@pytest.fixture
def finished() -> Callable[..., StepFinished]:
    """`finished(3, reward__mean=0.5)`: a complete step with the metric `reward/mean`."""
    return _finished
