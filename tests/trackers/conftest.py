"""The events of a run, as a tracker receives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rft.events import Event, Measured, RunEnded, RunStarted, StepFinished
from rft.metrics.intervals import Estimate
from rft.trackers import open_tracker
from rft.types import Policy, StepReport

CONFIG = {"name": "quickstart", "loop": {"steps": 4}, "graders": {"correct": {"use": "exact", "api_key": "<redacted>"}}}


def step(number: int, **metrics: float) -> StepFinished:
    """A step with these metrics, which learned for half a second."""
    policy = Policy(version=number, fingerprint="f")
    return StepFinished(report=StepReport(step=number, policy=policy, metrics=metrics, seconds={"learn": 0.5}))


@pytest.fixture
def track(tmp_path: Path) -> Callable[..., None]:
    """`track("wandb", [0.1, 0.2], last_step=1)`: a run whose steps after `last_step` have these rewards."""

    def run(name: str, rewards: Sequence[float], *, last_step: int = 0, status: str = "finished") -> None:
        folder = tmp_path / "monday"
        folder.mkdir(exist_ok=True)
        events: list[Event] = [
            RunStarted(name="quickstart", folder=folder, config=CONFIG, steps=4, last_step=last_step),
            *(step(number, **{"reward/mean": reward}) for number, reward in enumerate(rewards, last_step + 1)),
        ]
        if status == "finished":
            after = Estimate(mean=0.75, ci95=(0.5, 1.0), n=8)
            events.append(Measured(phase="after", step=last_step + len(rewards), estimate=after, groups=()))
        events.append(RunEnded(status=status, last_step=4, summary={}, paths={}, resume=None))
        sink = open_tracker(name)
        for event in events:
            sink.event(event)
        sink.close()

    return run
