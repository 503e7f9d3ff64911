"""Keeps the training tasks that the policy of the start solves neither too often nor too rarely (`loop.pass_rate`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rft.config import RunConfig
from rft.metrics.pass_rates import filter_by_pass_rate
from rft.run.inputs.fitting import check_enough
from rft.run_folder.recorded_scores import recorded_by_task
from rft.run_folder.recorder import read_rollouts
from rft.types import Task


def kept_tasks(run: RunConfig, tasks: Sequence[Task], folder: Path) -> tuple[Sequence[Task], dict[str, float]]:
    """Return the training tasks, filtered by recorded pass rates if configured, and the counts of the filter.

    Args:
        run: The configuration.
        tasks: All training tasks.
        folder: The run folder, which holds the measurement of the pass rates.

    Raises:
        UsageError: The filter keeps too few tasks for a step.
    """
    bounds = run.loop.pass_rate
    if bounds is None:
        return tasks, {}
    filtered = filter_by_pass_rate(
        tasks,
        recorded_by_task(read_rollouts(folder, "pass rate"), "reward"),
        min=bounds.min,
        max=bounds.max,
        at_least=run.loop.prompts_per_step,
    )
    check_enough(filtered.tasks, run)
    return filtered.tasks, dict(filtered.metrics)
