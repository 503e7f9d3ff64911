"""The sink that all trackers share, and the interface that each tracker implements."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Protocol

from rft.events import Event, Measured, RunEnded, RunStarted, StepFinished
from rft.types import StepReport


class Series(Protocol):
    """The numbers of one run in a tracker."""

    @property
    def id(self) -> str:
        """Identifies the series for a resumed run."""

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add the numbers of a step. Steps never decrease."""

    def finish(self, status: str) -> None:
        """End the series. The status is that of the run, such as `finished`."""


OpenSeries = Callable[[RunStarted, str | None], Series]
"""Opens the series with an id, or a new series if the id is None."""


class TrackerSink:
    """Sends the numbers of a run to a tracker.

    A resumed run continues its series: `trackers/<name>.json` in the run folder holds the id of the series and the last
    step in it. The sink skips steps that the series already contains, since a resumed run repeats them identically.

    Args:
        name: Name of the tracker.
        open_series: Opens the series.
        can_cut: Whether a reopened series itself drops the steps after the checkpoint.
    """

    def __init__(self, name: str, open_series: OpenSeries, *, can_cut: bool = False) -> None:
        self._name = name
        self._open_series = open_series
        self._can_cut = can_cut
        self._series: Series | None = None
        self._status = "interrupted"
        self._last_step = -1

    def event(self, event: Event) -> None:
        """Open the series, or log the numbers of a step."""
        match event:
            case RunStarted():
                self._open(event)
            case StepFinished():
                self._log(event.report.step, numbers_of(event.report))
            case Measured(phase="after"):  # the other measurements are among the numbers of a step
                self._log(event.step, event.estimate.to_metrics("after"), is_more=True)
            case RunEnded():
                self._status = event.status

    def close(self) -> None:
        """End the series."""
        if self._series is not None:
            self._series.finish(self._status)

    def _open(self, started: RunStarted) -> None:
        self._file = started.folder / "trackers" / f"{self._name}.json"
        known = json.loads(self._file.read_text()) if started.last_step and self._file.exists() else {}
        self._series = self._open_series(started, known.get("id"))
        self._last_step = (started.last_step or -1) if self._can_cut else known.get("last_step", -1)
        self._remember()

    def _log(self, step: int, numbers: Mapping[str, float], *, is_more: bool = False) -> None:
        """Add numbers; `is_more` marks those that follow the other numbers of the same step."""
        assert self._series is not None
        if step > self._last_step or (is_more and step == self._last_step):
            self._series.log(step, {name: value for name, value in numbers.items() if math.isfinite(value)})
            self._last_step = step
            self._remember()

    def _remember(self) -> None:
        """Write the state that a resume needs. A series that drops later steps itself needs none."""
        assert self._series is not None
        if not self._can_cut:
            self._file.parent.mkdir(exist_ok=True)
            unfinished = self._file.with_name(f"{self._file.name}.unfinished")
            unfinished.write_text(json.dumps({"id": self._series.id, "last_step": self._last_step}) + "\n")
            unfinished.replace(self._file)


def numbers_of(report: StepReport) -> dict[str, float]:
    """Return the numbers of a step under the names of metrics.jsonl, with durations as `seconds/<phase>`."""
    return {**report.metrics, **{f"seconds/{phase}": seconds for phase, seconds in report.seconds.items()}}


def open_tracker(name: str) -> TrackerSink:
    """Return the sink of a tracker, whose package is imported when the run starts.

    Args:
        name: A key of `rft.config.trackers.TRACKERS`.
    """

    def open_series(started: RunStarted, id: str | None) -> Series:
        series: Series = importlib.import_module(f"rft.trackers.{name}").open_series(started, id)
        return series

    return TrackerSink(name, open_series, can_cut=name == "tensorboard")
