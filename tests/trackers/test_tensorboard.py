"""TensorBoard's own reader finds one series for each number, and sees a resumed run as one."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rft.trackers.sink import numbers_of

from .conftest import step


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_each_number_has_one_tag(track: Callable[..., None], tmp_path: Path) -> None:
    track("tensorboard", [0.25, math.nan, 0.5])
    assert scalars(tmp_path / "monday") == {
        "reward/mean": [(1, 0.25), (3, 0.5)],  # no number, no point
        "seconds/learn": [(1, 0.5), (2, 0.5), (3, 0.5)],
        "after/mean": [(3, 0.75)],
        "after/low": [(3, 0.5)],
        "after/high": [(3, 1.0)],
    }


def test_a_resumed_run_continues_the_series_from_its_checkpoint(track: Callable[..., None], tmp_path: Path) -> None:
    track("tensorboard", [0.125, 0.25, 0.5, 0.625], status="interrupted")
    track("tensorboard", [0.75, 0.875], last_step=2, status="interrupted")
    assert scalars(tmp_path / "monday")["reward/mean"] == [(1, 0.125), (2, 0.25), (3, 0.75), (4, 0.875)]


def test_the_names_are_those_of_metrics_jsonl() -> None:
    assert numbers_of(step(1, loss=0.5).report) == {"loss": 0.5, "seconds/learn": 0.5}
