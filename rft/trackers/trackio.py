"""Trackio: a run in its local database, or in the place named by TRACKIO_SPACE_ID and other environment variables."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping

import trackio

from rft.events import RunStarted
from rft.trackers.names import PROJECT, run_name


class TrackioSeries:
    """A run of Trackio, identified by its name.

    Args:
        started: The run.
        id: Name of the run of Trackio that is resumed; None starts a new one.
    """

    def __init__(self, started: RunStarted, id: str | None) -> None:
        self.id = id or f"{run_name(started)}-{uuid.uuid4().hex[:8]}"
        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=self.id,
            resume="allow",
            config=dict(started.config),
            embed=False,  # in a notebook it would show its dashboard
        )

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log the numbers of a step."""
        self._run.log(dict(numbers), step=step)

    def finish(self, status: str) -> None:
        """Write the remaining numbers."""
        self._run.finish()


def open_series(started: RunStarted, id: str | None) -> TrackioSeries:
    """Start a run of Trackio, or resume the run with a name."""
    return TrackioSeries(started, id)
