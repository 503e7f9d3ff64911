"""MLflow: a run on the server of MLFLOW_TRACKING_URI, or else in the run folder's `mlflow.db`.

`mlflow-skinny` is enough. The client is used without MLflow's global "active run", so that the trials of a sweep can
log side by side.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from rft.events import RunStarted
from rft.trackers.names import PROJECT, run_name

STATUS = {"finished": "FINISHED", "pruned": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
MAX_PARAMS = 100
"""Maximum number of parameters in one call of MLflow."""
MAX_PARAM_CHARS = 500
_REFUSED = re.compile(r"[^\w\-. :/]", flags=re.ASCII)


class MlflowSeries:
    """A run of MLflow.

    Args:
        started: The run.
        id: Id of the run of MLflow to resume; None starts a new run.
    """

    def __init__(self, started: RunStarted, id: str | None) -> None:
        database = f"sqlite:///{started.folder.absolute()}/mlflow.db"
        self._client = MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", database))
        if id is not None:
            self.id = id
            self._client.update_run(id, status="RUNNING")
            return
        experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
        self.id = self._client.create_run(experiment, run_name=run_name(started)).info.run_id
        params = [Param(_accepted(key), value[:MAX_PARAM_CHARS]) for key, value in _flat(started.config)]
        for start in range(0, len(params), MAX_PARAMS):
            self._client.log_batch(self.id, params=params[start : start + MAX_PARAMS])

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log the numbers of a step."""
        now_ms = int(time.time() * 1000)
        metrics = [Metric(_accepted(name), value, now_ms, step) for name, value in numbers.items()]
        self._client.log_batch(self.id, metrics=metrics)

    def finish(self, status: str) -> None:
        """End the run of MLflow."""
        self._client.set_terminated(self.id, STATUS[status])

    def _experiment(self, name: str) -> str:
        known = self._client.get_experiment_by_name(name)
        id: str = known.experiment_id if known else self._client.create_experiment(name)
        return id


def open_series(started: RunStarted, id: str | None) -> MlflowSeries:
    """Start a run of MLflow, or resume the run with an id."""
    return MlflowSeries(started, id)


def _accepted(name: str) -> str:
    """Replace each character that MLflow refuses by `_`."""
    return _REFUSED.sub("_", name)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Flatten keys to the form `loop.steps`, and turn values into text."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
