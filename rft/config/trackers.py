"""The trackers of `logging.report_to` and the metrics for Prometheus, and whether their packages are installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from rft.config.fields import Section, Whole
from rft.imports import EXTRA_OF, missing_packages

TRACKERS = ("mlflow", "tensorboard", "trackio", "wandb")
"""Each is imported under the tracker's name."""


class LoggingConfig(Section):
    """Receivers of a run's events, besides the run folder and the terminal."""

    report_to: list[str] = ["tensorboard"]
    """Trackers: `tensorboard`, `wandb`, `mlflow`, `trackio`."""
    sinks: list[str] = []
    """Your own classes with the methods `event` and `close`, such as `my_sinks.py:MySink`; see docs/sinks.md."""
    prometheus_port: Annotated[Whole, Field(ge=0, le=65535)] | None = None
    """Port on 127.0.0.1 that serves the run's metrics for Prometheus; 0 takes a free one, null serves none."""
    completions_with_tokens: Annotated[Whole, Field(ge=0)] = 64
    """Most completions of a step or measurement for which rollouts.jsonl contains token ids and log-probabilities, 7
    bytes per token, so that `rft view` can colour them; 0 records none. With a teacher, or with `learner.beta` or
    `learner.kl_coef` above 0, 3 more bytes hold the log-probabilities of the teacher or of the start of the run."""


def tracker_problems(names: Sequence[str]) -> list[str]:
    """Problems of `logging.report_to`. Packages of the extra `train` may be missing: `rft check` runs without them."""
    problems = []
    for name in names:
        if name not in TRACKERS:
            problems.append(
                f"logging.report_to={name}: there is no such tracker; there are: {', '.join(TRACKERS)}; a sink of your "
                "own (logging.sinks) can send to any other"
            )
        elif EXTRA_OF[name] != "train" and (problem := missing_packages(f"logging.report_to={name}", name)):
            problems.append(problem)
    return problems


def prometheus_problems(port: int | None) -> list[str]:
    """Problems of `logging.prometheus_port`."""
    if port is None:
        return []
    missing = missing_packages(f"logging.prometheus_port={port}", "prometheus_client")
    return [missing] if missing else []
