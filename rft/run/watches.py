"""All that watches the steps of a run for signs of trouble and puts them into words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from rft.config import RunConfig
from rft.config.mixture import graders_by_family
from rft.metrics.drift import DriftWatch, drift_metrics
from rft.metrics.held_out import metric_bounds
from rft.metrics.intervals import estimate
from rft.metrics.micro_batch_watch import HalvingWatch
from rft.metrics.over_optimization import INDEPENDENT, OverOptimizationWatch, ValidationChanges
from rft.metrics.signal import SignalWatch
from rft.metrics.watch_findings import watched_by
from rft.run.evaluation import Evaluation
from rft.run_folder.recorded_scores import recorded_by_task
from rft.run_folder.recorder import read_metrics, read_rollouts
from rft.types import GradedGroup, StepReport


class StepWatches:
    """Watches the graded groups of the steps.

    Args:
        run: The configuration.
        has_teacher: Whether a teacher gives every token an advantage, even if all completions score the same.
    """

    def __init__(self, run: RunConfig, *, has_teacher: bool) -> None:
        bounds = metric_bounds(run.graders, "reward", graders_by_family(run.data))
        self._drift = DriftWatch(bounds=None if has_teacher else bounds)
        self._signal = SignalWatch() if run.learner.needs_differences and not has_teacher else None
        self._halving = HalvingWatch()

    def read(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Read the lines of a resumed run's metrics.jsonl."""
        self._drift.read(line for line in lines if line["step"] > 0)

    def observe(self, report: StepReport, groups: Sequence[GradedGroup]) -> tuple[StepReport, list[str]]:
        """Observe a step; return its report with drift metrics, and the warnings."""
        report, warnings = self._drift.watched(report, drift_metrics(groups))
        no_signal = self._signal.observe(groups) if self._signal else None
        first = [no_signal, self._halving.observe(report.metrics)]
        return report, [warning for warning in (*first, *warnings) if warning]


class MeasurementWatch:
    """Watches the measurements of validation tasks for over-optimisation.

    Args:
        run: The configuration.
        folder: The run folder, which holds the measurements of a resumed run.
    """

    def __init__(self, run: RunConfig, folder: Path) -> None:
        self._how = run.evaluation
        self._folder = folder
        self._compared = watched_by(run.graders, graders_by_family(run.data), run.evaluation.model_dump())
        self._changes = ValidationChanges(self._compared)
        self._watch = OverOptimizationWatch(self._compared)

    def read(self) -> None:
        """Read the state of a resumed run from its folder."""
        lines = [line for line in read_metrics(self._folder) if line["step"] > 0]
        self._watch.read(lines)
        first = next((line["step"] for line in lines if line["metrics"].get("eval/mean") is not None), None)
        if first is None:
            return
        of_step = list(takewhile(lambda line: line["step"] <= first, read_rollouts(self._folder, "validation")))
        name = self._how.independent_grader
        independent = recorded_by_task(of_step, name) if name else {}
        self._changes.refer_to(recorded_by_task(of_step, self._how.metric), independent)

    def metrics(self, measured: Evaluation) -> dict[str, float]:
        """Return the metrics of a measurement that the watch compares."""
        of_tasks = measured.independent
        bounds = self._compared.independent_bounds
        mean = estimate(list(of_tasks.values()), bounds=bounds).to_metrics(INDEPENDENT) if of_tasks else {}
        return mean | self._changes.observe(measured.by_task, of_tasks)

    def warnings(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """Observe all metrics of a step; return the warnings."""
        return self._watch.observe(step, metrics)
