"""The training, validation and test tasks of a run, and a check that they do not overlap."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from rft.data.clusters import clusters
from rft.data.files import data_error
from rft.data.messages import has_prompt, prompt_key
from rft.data.tasks import digest, read_tasks
from rft.errors import DataError
from rft.types import Split, Task

MAX_SHOWN_OVERLAPS = 3
"""Number of shared prompts to show; all are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSets:
    """The tasks of a run by purpose. A list may be empty.

    Example:
        TaskSets(train=[task_1, task_2], validation=[task_3], test=[task_4])
    """

    train: list[Task]
    """Tasks for training."""
    validation: list[Task]
    """Tasks measured during the run."""
    test: list[Task]
    """Tasks measured before and after the run."""


def load_task_sets(
    *,
    train: str | None,
    validation: str | None,
    test: str | None,
    columns: Mapping[str, str],
    system: str | None,
    validation_share: float,
    seed: int,
    allow_overlap: bool,
    format: Literal["chat", "raw"] = "chat",
    group_by: str | None = None,
    read_train: Callable[..., list[Task]] = read_tasks,
    read_validation: Callable[..., list[Task]] = read_tasks,
    read_test: Callable[..., list[Task]] = read_tasks,
) -> TaskSets:
    """Read the task files of a run and check them against each other.

    Args:
        train: Source of the tasks to train on (see `rft.data.sources.read_rows`); None for an evaluation.
        validation: Source of the validation tasks.
        test: Source of the test tasks.
        columns: Maps rft's column names to those of the sources, such as `{"prompt": "question"}`.
        system: System message for chats without one.
        validation_share: Share of the training prompts to split off without a validation source; see `split_off`.
        seed: Selects the training tasks that become validation tasks.
        allow_overlap: Whether a prompt may occur in two of the three sets.
        format: With `raw`, prompts must be texts.
        group_by: Column whose values must not be in two of the three sets, such as the customer.
        read_train: Reads the training tasks, like `read_tasks`; see `READERS` in `rft.data.training_rows`.
        read_validation: Reads the validation tasks.
        read_test: Reads the test tasks.

    Raises:
        DataError: Contains the problems of all files.
    """
    problems: list[str] = []
    tasks: dict[Split, list[Task]] = {split: [] for split in Split}
    readers = {Split.TRAIN: read_train, Split.VALIDATION: read_validation, Split.TEST: read_test}
    for split, source in ((Split.TRAIN, train), (Split.VALIDATION, validation), (Split.TEST, test)):
        if source is not None:
            try:
                tasks[split] = readers[split](
                    source, key=f"data.{split}", split=split, columns=columns, system=system, format=format
                )
            except DataError as error:
                problems += error.problems
    if not allow_overlap:
        problems += overlaps(tasks, {split: f"data.{split}" for split in Split}, group_by)
    if validation is None and validation_share != 0 and tasks[Split.TRAIN]:
        try:
            tasks[Split.TRAIN], tasks[Split.VALIDATION] = split_off(
                tasks[Split.TRAIN], share=validation_share, seed=seed, group_by=group_by
            )
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError("task files", problems)
    return TaskSets(train=tasks[Split.TRAIN], validation=tasks[Split.VALIDATION], test=tasks[Split.TEST])


def key_of(task: Task) -> str:
    """Return a key that is equal for tasks with the same prompt; without a prompt, for tasks with the same columns."""
    if has_prompt(task.messages):
        return prompt_key(task.messages)
    return digest({name: value for name, value in task.item.items() if name != "id"})


def split_off(
    train: Sequence[Task], *, share: float, seed: int, group_by: str | None = None
) -> tuple[list[Task], list[Task]]:
    """Split validation tasks off the training tasks.

    A hash of prompt and seed gives each prompt a number in [0, 1). Prompts below `share` become validation prompts.
    Adding or removing a row therefore moves no other row, and the rows of one prompt stay together. The actual share
    varies around `share` like the share of heads in coin flips. Each side receives at least one prompt. With
    `group_by`, the values of this column take the place of the prompts; values that share a prompt stay together.

    Returns:
        The remaining training tasks, and the validation tasks.

    Raises:
        DataError: The share is not between 0 and 1, or all tasks have the same prompt or value, or
            prompts connect all values.
    """
    if not 0 < share < 1:
        raise data_error(f"data.validation_share={share} must be at least 0 (none) and below 1, such as 0.05")
    keys = [key_of(task) for task in train] if group_by is None else _group_keys(train, group_by)
    draws = {key: _draw(f"{seed} {key}") for key in keys}
    if len(draws) < 2:
        raise data_error(
            f"data.validation_share={share} cannot split the one {'prompt' if group_by is None else group_by} of "
            f"data.train{'' if group_by is None else ' (values that share a prompt count as one)'}; add tasks, or set "
            "it to 0"
        )
    ordered = sorted(draws.values())
    limit = min(max(share, ordered[1]), ordered[-1])  # above the lowest draw, and not above the highest
    remaining = [task for task, key in zip(train, keys, strict=True) if draws[key] >= limit]
    held_out = [
        replace(task, split=Split.VALIDATION) for task, key in zip(train, keys, strict=True) if draws[key] < limit
    ]
    return remaining, held_out


def _group_keys(tasks: Sequence[Task], group_by: str) -> list[str]:
    """Return the same key for tasks that share a value of the column or a prompt, directly or through other tasks."""
    keys = [digest(task.item.get(group_by)) for task in tasks]
    first_of_group: dict[str, int] = {}
    first_of_prompt: dict[str, int] = {}
    links: list[tuple[int, int]] = []
    for number, (task, key) in enumerate(zip(tasks, keys, strict=True)):
        links.append((first_of_group.setdefault(key, number), number))
        links.append((first_of_prompt.setdefault(key_of(task), number), number))
    # The smallest key names a cluster, so that the order of the tasks does not matter.
    names = {number: min(keys[one] for one in cluster) for cluster in clusters(links) for number in cluster}
    return [names[number] for number in range(len(tasks))]


def _draw(text: str) -> float:
    digest = hashlib.sha256(text.encode("ascii")).digest()
    return int.from_bytes(digest[:6]) / 2**48


def overlaps(
    tasks: Mapping[Split, Sequence[Task]], keys: Mapping[Split, str], group_by: str | None = None
) -> list[str]:
    """Return one problem for each two splits that share prompts, or values of a column.

    Args:
        tasks: The tasks of each split.
        keys: The configuration key of each split, for messages.
        group_by: Column whose values must not be in two splits.
    """
    pairs = combinations(Split, 2)
    shared = [problem for one, other in pairs for problem in _overlap(keys[one], tasks[one], keys[other], tasks[other])]
    return shared if group_by is None else shared + _shared_groups(tasks, keys, group_by)


def _shared_groups(tasks: Mapping[Split, Sequence[Task]], keys: Mapping[Split, str], group_by: str) -> list[str]:
    """Return the problems of a column whose values stay together: tasks without it, and values in two splits."""
    problems = [
        f"{len(without)} of the {len(tasks[split])} rows of {keys[split]} have no column {group_by!r} "
        f"(data.group_by={group_by}), first {without[0].where}"
        for split in Split
        if (without := [task for task in tasks[split] if task.item.get(group_by) is None])
    ]
    where = {split: {digest(task.item.get(group_by)): task for task in reversed(tasks[split])} for split in Split}
    for one, other in combinations(Split, 2):
        if shared := [key for key in where[one] if key in where[other]]:
            examples = ", ".join(
                f"{where[one][key].item.get(group_by)!r} ({where[one][key].where}, {where[other][key].where})"
                for key in shared[:MAX_SHOWN_OVERLAPS]
            )
            more = ", ..." if len(shared) > MAX_SHOWN_OVERLAPS else ""
            problems.append(
                f"{len(shared)} values of {group_by!r} are in {keys[one]} and in {keys[other]}: {examples}{more}; "
                "move the rows of a value to one of the files (rft data split group_by=...), or set "
                "data.allow_overlap=true"
            )
    return problems


def _overlap(one_key: str, one: Sequence[Task], other_key: str, other: Sequence[Task]) -> list[str]:
    """Return the problem of prompts that two splits share, or an empty list."""
    where = {key_of(known): known.where for known in reversed(one)}
    shared = [(new.where, where[key]) for new in other if (key := key_of(new)) in where]
    if not shared:
        return []
    examples = ", ".join(f"{new} = {known}" for new, known in shared[:MAX_SHOWN_OVERLAPS])
    more = ", ..." if len(shared) > MAX_SHOWN_OVERLAPS else ""
    return [
        f"{len(shared)} of the {len(other)} prompts of {other_key} are also in {one_key} "
        f"({examples}{more}); remove them from one of the files, or set data.allow_overlap=true"
    ]
