"""The task families of a run: their files, and the graders of each task."""

from __future__ import annotations

from collections.abc import Collection

from rft.config import EvaluateConfig, RunConfig
from rft.config.mixture import trained_families
from rft.data.mixture_sets import FamilySources
from rft.data.splits import TaskSets
from rft.types import Split, Task


def family_sources(config: RunConfig | EvaluateConfig, *, needs_training_tasks: bool) -> dict[str, FamilySources]:
    """Return the task files of each family that a command reads, by name; empty without a mixture.

    Args:
        config: The configuration.
        needs_training_tasks: Whether to read training and validation tasks.
    """
    data, trained = config.data, trained_families(config.data)
    sources = {}
    for name, family in data.mixture.items():
        given = {
            Split.TRAIN: ("source", family.source if needs_training_tasks and name in trained else None),
            Split.VALIDATION: ("validation", family.validation if needs_training_tasks else None),
            Split.TEST: ("test", family.test),
        }
        files = {split: (f"data.mixture.{name}.{key}", source) for split, (key, source) in given.items() if source}
        columns = data.columns if family.columns is None else family.columns
        sources[name] = FamilySources(files=files, columns=columns)
    return sources


def first_tasks(config: RunConfig | EvaluateConfig, tasks: TaskSets) -> list[Task]:
    """Return the first task of each family that graders score; without families, the first of all."""
    grades_training = isinstance(config, RunConfig) and (
        config.data.check_demonstrations or (config.learner.takes == "groups" and not config.learner.has_teacher)
    )
    first: dict[str, Task] = {}
    for task in [*(tasks.train if grades_training else ()), *tasks.validation, *tasks.test]:
        first.setdefault(task.family, task)
    return list(first.values())


def graders_of(config: RunConfig | EvaluateConfig, task: Task) -> Collection[str]:
    """Return the names of the graders that score a task."""
    return config.data.mixture[task.family].graders if config.data.mixture else config.graders
