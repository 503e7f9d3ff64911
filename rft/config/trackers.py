"""The trackers of `logging.report_to`, and whether their packages are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence

TRACKERS: Mapping[str, str] = {
    "mlflow": "mlflow-skinny",
    "tensorboard": "tensorboard",
    "trackio": "trackio",
    "wandb": "wandb",
}
"""The package to install for each tracker. Each is imported under the tracker's name."""


def tracker_problems(names: Sequence[str]) -> list[str]:
    """Problems of `logging.report_to`."""
    problems = []
    for name in names:
        if name not in TRACKERS:
            problems.append(
                f"logging.report_to={name}: there is no such tracker; there are: {', '.join(TRACKERS)}; a sink of your "
                "own (logging.sinks) can send to any other"
            )
        elif importlib.util.find_spec(name) is None:
            problems.append(f"logging.report_to={name}: {name} is not installed; run: pip install {TRACKERS[name]}")
    return problems
