"""Reads the tasks of a configuration and its worked examples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rft.config import EvaluateConfig, RunConfig
from rft.data.mixture_sets import load_mixture
from rft.data.shots import Shots
from rft.data.splits import TaskSets, load_task_sets
from rft.run.inputs.family_tasks import family_sources
from rft.run.inputs.fitting import Reuse, check_enough, collect
from rft.run.inputs.grounded_tasks import SPLITS, Grounded, grounded_tasks
from rft.run.inputs.row_inputs import readers, refuse_missing_answers
from rft.run.inputs.shots import drawn_shots, recorded_shots
from rft.turns import PASSAGES
from rft.types import Task


def load_tasks(
    config: RunConfig | EvaluateConfig, needs_training_tasks: bool, reuse: Reuse, problems: list[str]
) -> tuple[TaskSets | None, Shots | None, Grounded | None]:
    """Return the tasks, the worked examples, and how they were grounded; None if they have problems.

    Args:
        config: The configuration.
        needs_training_tasks: Whether to read `data.train`.
        reuse: Cache shared with other configurations.
        problems: Receives the problems.
    """
    shots = collect(problems, lambda: recorded_shots(config))
    reads_training_tasks = needs_training_tasks or bool(config.data.shots and shots is None)
    tasks = collect(problems, lambda: _read_tasks(config, reads_training_tasks, reuse))
    if tasks is None:
        return None, None, None
    collect(problems, lambda: check_enough(tasks.train, config))
    collect(problems, lambda: refuse_missing_answers(config, tasks))
    before = len(problems)
    grounded = collect(problems, lambda: grounded_tasks(config, tasks, reuse))
    if len(problems) > before:
        return None, None, None
    shown = tasks if grounded is None else grounded.tasks
    if any(tool.searches for tool in config.tools.values()):
        shown = TaskSets(**{split: list(map(_with_passages, getattr(shown, split))) for split in SPLITS})
    shots = shots or collect(problems, lambda: drawn_shots(config, shown))
    return shown if needs_training_tasks else replace(shown, train=[], validation=[]), shots, grounded


def _with_passages(task: Task) -> Task:
    """Return a task whose prompt shows no passages unless it has some: an episode without a search is no fault."""
    return task if PASSAGES in task.item else replace(task, item={**task.item, PASSAGES: []})


def _read_tasks(config: RunConfig | EvaluateConfig, reads_training_tasks: bool, reuse: Reuse) -> TaskSets:
    data = config.data
    arguments: dict[str, Any] = {
        "system": data.system,
        "validation_share": data.validation_share,
        "seed": config.seed if data.validation_share else 0,  # runs without a split read the same tasks
        "allow_overlap": data.allow_overlap,
        "group_by": data.group_by,
        "format": data.format,
        **readers(config),
    }
    if data.mixture:
        families = family_sources(config, needs_training_tasks=reads_training_tasks)
        return reuse.get(("tasks", repr((families, arguments))), lambda: load_mixture(families, **arguments))
    arguments |= {
        "train": data.train if reads_training_tasks else None,
        "validation": data.validation if reads_training_tasks else None,
        "test": data.test,
        "columns": data.columns,
    }
    return reuse.get(("tasks", repr(arguments)), lambda: load_task_sets(**arguments))
