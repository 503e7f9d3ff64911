"""Weights & Biases: a run on its server, with local files in the run folder's `wandb/`.

Environment variables such as WANDB_PROJECT, WANDB_ENTITY and WANDB_MODE apply.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping

import wandb

from rft.events import RunStarted
from rft.trackers.names import PROJECT, run_name


class WandbSeries:
    """A run of W&B.

    Args:
        started: The run.
        id: Id of the run of W&B to resume; None starts a new run.
    """

    def __init__(self, started: RunStarted, id: str | None) -> None:
        self.id = id or uuid.uuid4().hex
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run_name(started),
            id=self.id,
            resume="allow",
            dir=str(started.folder),
            config=dict(started.config),
            reinit="create_new",  # the trials of a sweep run in one process
            settings=wandb.Settings(console="off"),
        )

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log the numbers of a step."""
        self._run.log(dict(numbers), step=step)

    def finish(self, status: str) -> None:
        """Upload the remaining numbers, and end the run of W&B."""
        self._run.finish(exit_code=int(status == "failed"))


def open_series(started: RunStarted, id: str | None) -> WandbSeries:
    """Start a run of W&B, or resume the run with an id."""
    return WandbSeries(started, id)
