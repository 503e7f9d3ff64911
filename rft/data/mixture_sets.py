"""Reads the task files of a mixture's families, and checks them against each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Any

from rft.data.splits import TaskSets, overlaps, split_off
from rft.data.tasks import read_tasks
from rft.errors import DataError
from rft.types import Split, Task

KEYS = {
    Split.TRAIN: "data.mixture.*.source",
    Split.VALIDATION: "data.mixture.*.validation",
    Split.TEST: "data.mixture.*.test",
}
"""Keys of the sources of all families, for messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilySources:
    """The task files of a family, each with its configuration key; a split without a file is absent.

    Example:
        FamilySources(files={Split.TRAIN: ("data.mixture.gcd.source", "gcd.jsonl")}, columns={})
    """

    files: Mapping[Split, tuple[str, str]]
    """Configuration key and source by split."""
    columns: Mapping[str, str]
    """Maps rft's column names to those of the files."""


def load_mixture(
    families: Mapping[str, FamilySources],
    *,
    validation_share: float,
    seed: int,
    allow_overlap: bool,
    group_by: str | None = None,
    read_train: Callable[..., list[Task]] = read_tasks,
    read_validation: Callable[..., list[Task]] = read_tasks,
    read_test: Callable[..., list[Task]] = read_tasks,
    **options: Any,
) -> TaskSets:
    """Read the tasks of all families.

    The id of a task begins with the name of its family and a slash, so that files may use the same ids.

    Args:
        families: The sources by name of the family.
        validation_share: Share of each family's training prompts to split off for validation; see `split_off`.
        seed: Selects the training tasks that become validation tasks.
        allow_overlap: Whether a prompt may occur in two of the three sets, also in different families.
        group_by: Column whose values must not be in two of the three sets, also in different families.
        read_train: Reads training tasks, like `read_tasks`.
        read_validation: Reads validation tasks.
        read_test: Reads test tasks.
        options: Further arguments of `read_tasks`: `system`, `format`.

    Returns:
        The tasks of all families. The first n validation tasks contain about equally many of each family.

    Raises:
        DataError: Contains the problems of all files.
    """
    problems: list[str] = []
    tasks: dict[Split, list[list[Task]]] = {split: [] for split in Split}
    readers = {Split.TRAIN: read_train, Split.VALIDATION: read_validation, Split.TEST: read_test}
    for name, sources in families.items():
        read: dict[Split, list[Task]] = {}
        for split, (key, source) in sources.files.items():
            try:
                rows = readers[split](source, key=key, split=split, columns=sources.columns, **options)
                read[split] = [replace(task, id=f"{name}/{task.id}", family=name) for task in rows]
            except DataError as error:
                problems += error.problems
        if validation_share and Split.VALIDATION not in sources.files and Split.TRAIN in read:
            try:
                read[Split.TRAIN], read[Split.VALIDATION] = split_off(
                    read[Split.TRAIN], share=validation_share, seed=seed, group_by=group_by
                )
            except DataError as error:
                problems += [f"data.mixture.{name}: {problem}" for problem in error.problems]
        for split, of_split in read.items():
            tasks[split].append(of_split)
    sets = {split: list(chain.from_iterable(lists)) for split, lists in tasks.items()}
    if not allow_overlap:
        problems += overlaps(sets, KEYS, group_by)
    if problems:
        raise DataError("task files", problems)
    return TaskSets(train=sets[Split.TRAIN], validation=_in_turn(tasks[Split.VALIDATION]), test=sets[Split.TEST])


def _in_turn(lists: Sequence[Sequence[Task]]) -> list[Task]:
    """Return the first task of each list, then the second of each, and so on."""
    return [task for tasks in zip_longest(*lists) for task in tasks if task is not None]
