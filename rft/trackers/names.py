"""Names of a run in trackers."""

from __future__ import annotations

from rft.events import RunStarted

PROJECT = "rft"
"""Project or experiment, unless the tracker's own environment variable names another."""


def run_name(started: RunStarted) -> str:
    """Return the name of a run and of its folder, such as `quickstart-2026-11-28_09-30-00`."""
    return f"{started.name}-{started.folder.name}"
