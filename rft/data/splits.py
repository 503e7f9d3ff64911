"""The tasks of a run: train, validation and test, and the proof that what measures was not trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from rft.data.files import data_error
from rft.data.messages import prompt_key
from rft.data.tasks import read_tasks
from rft.errors import DataError
from rft.types import Split, Task

MAX_SHOWN_OVERLAPS = 3
"""How many prompts that two splits share are shown; all of them are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSets:
    """The tasks of a run by what they are used for; a list is empty when there are none.

    Example:
        TaskSets(train=[task_1, task_2], validation=[task_3], test=[task_4])
    """

    train: list[Task]
    """The policy is trained on them."""
    validation: list[Task]
    """Measured while the run goes on."""
    test: list[Task]
    """Measured before and after the run."""


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
) -> TaskSets:
    """Read the task files of a run and check them against each other.

    Args:
        train: Source of the tasks to train on (see `rft.data.sources.read_rows`); None when a run only evaluates.
        validation: Source of the validation tasks.
        test: Source of the test tasks.
        columns: Our column names to the sources', as `{"prompt": "question"}`.
        system: Put first as a system message into each chat that has none.
        validation_share: Share of the training prompts to validate with instead, from 0 (none) to below 1; only used
            without a validation source. The true share differs a little, see `split_off`.
        seed: Decides which training tasks become validation tasks.
        allow_overlap: Whether the same prompt may be in two of the three.
        format: With `raw` prompts must be texts.

    Raises:
        DataError: With the findings of all files.
    """
    problems: list[str] = []
    tasks: dict[Split, list[Task]] = {}
    for split, source in ((Split.TRAIN, train), (Split.VALIDATION, validation), (Split.TEST, test)):
        tasks[split] = []
        if source is not None:
            try:
                tasks[split] = read_tasks(
                    source, key=f"data.{split}", split=split, columns=columns, system=system, format=format
                )
            except DataError as error:
                problems += error.problems
    if not allow_overlap:
        for one, other in combinations(Split, 2):
            problems += _overlap(one, tasks[one], other, tasks[other])
    if validation is None and validation_share != 0 and tasks[Split.TRAIN]:
        try:
            tasks[Split.TRAIN], tasks[Split.VALIDATION] = split_off(
                tasks[Split.TRAIN], share=validation_share, seed=seed
            )
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError("task files", problems)
    return TaskSets(train=tasks[Split.TRAIN], validation=tasks[Split.VALIDATION], test=tasks[Split.TEST])


def split_off(train: Sequence[Task], *, share: float, seed: int) -> tuple[list[Task], list[Task]]:
    """Split validation tasks off the training tasks.

    Each prompt draws a number in [0, 1) from a hash of itself and the seed, and those below `share` go to validation.
    So a row that is added or taken away moves no other row, and the rows of one prompt stay together; the true share
    differs from `share` as a coin's would. At least one prompt goes to each side.

    Returns:
        The training tasks that are left, and the validation tasks.

    Raises:
        DataError: The share is not between 0 and 1, or there is only one prompt.
    """
    if not 0 < share < 1:
        raise data_error(f"data.validation_share={share} must be from 0 (none) to below 1, as 0.05")
    keys = [prompt_key(one.messages) for one in train]
    draws = {key: _draw(f"{seed} {key}") for key in keys}
    if len(draws) < 2:
        raise data_error(
            f"data.validation_share={share} cannot split the one prompt of data.train; add tasks, or set it to 0"
        )
    ordered = sorted(draws.values())
    limit = min(max(share, ordered[1]), ordered[-1])  # above the lowest draw, and not above the highest
    left = [one for one, key in zip(train, keys, strict=True) if draws[key] >= limit]
    held_out = [
        replace(one, split=Split.VALIDATION) for one, key in zip(train, keys, strict=True) if draws[key] < limit
    ]
    return left, held_out


def _draw(text: str) -> float:
    digest = hashlib.sha256(text.encode("ascii")).digest()
    return int.from_bytes(digest[:6]) / 2**48


def _overlap(one_split: Split, one: Sequence[Task], other_split: Split, other: Sequence[Task]) -> list[str]:
    """The finding about prompts that two splits share, if there are any."""
    where = {prompt_key(known.messages): known.where for known in reversed(one)}
    shared = [(new.where, where[key]) for new in other if (key := prompt_key(new.messages)) in where]
    if not shared:
        return []
    examples = ", ".join(f"{new} = {known}" for new, known in shared[:MAX_SHOWN_OVERLAPS])
    more = ", ..." if len(shared) > MAX_SHOWN_OVERLAPS else ""
    return [
        f"{len(shared)} of the {len(other)} prompts of data.{other_split} are in data.{one_split} too "
        f"({examples}{more}); take them out of one of the files, or set data.allow_overlap=true"
    ]
