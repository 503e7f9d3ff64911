"""Worked examples (few-shot): training tasks with their answers, which precede every prompt.

The training tasks have a fixed order by a hash of seed and prompt, like that of `rft.data.splits.split_off`, so a new
row moves no other one. Every prompt shows the first `num` of them. A spare one replaces an example that is the prompt's
own task. Almost all prompts therefore begin with the same tokens, which engines cache.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rft.data.demonstration_records import Demonstration
from rft.data.demonstrations import to_demonstration
from rft.data.files import data_error
from rft.data.messages import prompt_key
from rft.data.tasks import read_with, to_task
from rft.errors import UsageError
from rft.types import Message, Task

FILE = "shots.json"
"""File of a run folder with the worked examples."""
LIKELY_COLUMNS = ("completion", "answer")
"""Columns that hold the answer unless `data.shot_answer` names one, in this order."""
BETWEEN = "\n\n"
"""Text between two examples without a chat template."""
_SYSTEM = ("system", "developer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A worked example.

    Example:
        Shot(task_id="3f1c...", where="train.jsonl:17",
             chat=({"role": "user", "content": "2 + 2 = ?"}, {"role": "assistant", "content": "4"}))
    """

    task_id: str
    """`Task.id` of the training task."""
    where: str
    """Origin of the training task."""
    chat: tuple[Message, ...]
    """The prompt without system messages, and the answer as the assistant's message."""


@dataclass(frozen=True, kw_only=True)
class Shots:
    """The worked examples of a run.

    Example:
        Shots(num=4, seed=0, source="train.jsonl", examples=(Shot(...), ...))
    """

    num: int
    """Number of examples in a prompt."""
    seed: int
    """Seed of the draw."""
    source: str
    """Source of the training tasks."""
    examples: tuple[Shot, ...]
    """`num` examples, and a spare one unless the training tasks are too few."""

    def of(self, task: Task) -> tuple[Shot, ...]:
        """Return the examples that precede a task's prompt: `num` of them, never the task itself."""
        own = _key(task.chat[:-1] if isinstance(task, Demonstration) else task.messages)
        others = [shot for shot, key in zip(self.examples, self._keys, strict=True) if key != own]
        return tuple(others[: self.num])

    def before(self, task: Task, messages: Sequence[Message]) -> tuple[Message, ...]:
        """Return messages of a task with the examples before them, after the system message."""
        system = list(takewhile(lambda message: message["role"] in _SYSTEM, messages))
        shown = [message for shot in self.of(task) for message in shot.chat]
        return (*system, *shown, *messages[len(system) :])

    def before_text(self, task: Task, messages: Sequence[Message]) -> tuple[Message, ...]:
        """Return messages of a task with the examples as text before the first one, for `data.format=raw`."""
        shown = [message["content"] for shot in self.of(task) for message in (*shot.chat, {"content": BETWEEN})]
        return ({**messages[0], "content": "".join([*shown, messages[0]["content"]])}, *messages[1:])

    def to_text(self) -> str:
        """Return the content of shots.json."""
        return json.dumps(asdict(self), indent=2, default=str) + "\n"

    def in_words(self) -> str:
        """Return number and origin of the examples, and the answer of the first, in one line."""
        places = ", ".join(shot.where or shot.task_id for shot in self.examples[: self.num])
        return f"{self.num} before every prompt: {places}; the first answers {self.examples[0].chat[-1]['content']!r}"

    def to_manifest(self) -> dict[str, Any]:
        """Return the entry of manifest.json."""
        task_ids = [shot.task_id for shot in self.examples]
        return {"num": self.num, "source": self.source, "sha256": self.sha256, "task_ids": task_ids}

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of number and content of the examples."""
        content = [self.num, [shot.chat for shot in self.examples]]
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode("ascii")).hexdigest()

    @cached_property
    def _keys(self) -> list[str]:
        return [_key(shot.chat[:-1]) for shot in self.examples]


def read_shots(folder: Path) -> Shots | None:
    """Return the worked examples of a run folder; None if the run has none.

    Raises:
        UsageError: The file is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        return TypeAdapter(Shots).validate_json(file.read_bytes())
    except ValidationError as error:
        (first, *_) = error.errors()
        place = ".".join(map(str, first["loc"]))
        raise UsageError("worked examples", [f"{file} is damaged: {place}: {first['msg']}; copy it again"]) from error


def to_worked_task(content: Mapping[str, Any], **options: Any) -> Task:
    """Turn a row into a demonstration if it has an answer of the assistant, and into a task otherwise.

    Args:
        content: The row.
        options: Like in `rft.data.tasks.to_task`.

    Raises:
        BadRow: The row is neither.
    """
    messages = content.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    is_answered = isinstance(last, Mapping) and last.get("role") == "assistant"
    return (to_demonstration if is_answered else to_task)(content, **options)


def read_worked_tasks(source: str, **options: Any) -> list[Task]:
    """Read rows for `draw_shots`, with and without an answer of the assistant. Like `rft.data.tasks.read_tasks`."""
    return read_with(to_worked_task, source, **options)


def draw_shots(
    train: Sequence[Task],
    *,
    num: int,
    seed: int,
    source: str,
    column: str | None,
    held_out: Sequence[Task],
    needs_spare: bool,
    is_raw: bool,
) -> Shots:
    """Draw worked examples from the training tasks.

    Args:
        train: The training tasks. Those without an answer are no candidates, nor is a second task with one prompt.
        num: Number of examples in a prompt.
        seed: Selects the examples.
        source: Source of the training tasks.
        column: Column with the answer; None takes a demonstration's answer, or the first of `LIKELY_COLUMNS`.
        held_out: Validation and test tasks, whose prompts are no candidates.
        needs_spare: Whether prompts of training tasks are rendered, so that an example may have to be replaced.
        is_raw: Whether prompts are sent without a chat template.

    Raises:
        DataError: Too few training tasks have an answer.
    """
    excluded = {_key(task.messages) for task in held_out}
    candidates: dict[str, Shot] = {}
    for task in train:
        key = _key(task.messages)
        if key not in excluded and key not in candidates and (shot := _shot(task, column, is_raw)) is not None:
            candidates[key] = shot
    num_needed = num + 1 if needs_spare else num
    if len(candidates) < num_needed:
        raise data_error(_too_few(len(candidates), train, num, column, needs_spare))
    order = sorted(candidates, key=lambda key: hashlib.sha256(f"shots {seed} {key}".encode("ascii")).digest())
    examples = tuple(candidates[key] for key in order[: num + 1])
    return Shots(num=num, seed=seed, source=source, examples=examples)


def _shot(task: Task, column: str | None, is_raw: bool) -> Shot | None:
    """Return a task with its answer; None if it has no answer."""
    if isinstance(task, Demonstration) and column is None:
        return Shot(task_id=task.id, where=task.where, chat=_without_system(task.chat))
    names = LIKELY_COLUMNS if column is None else (column,)
    found = ((name, text) for name in names if (text := _text(task.item.get(name))))
    name, answer = next(found, ("", ""))
    if not answer:
        return None
    prompt = _without_system(task.messages)
    # A completion is text that follows the prompt; an answer for a grader is not.
    if is_raw and name != "completion" and not (prompt[-1]["content"][-1:].isspace() or answer[:1].isspace()):
        answer = f" {answer}"
    return Shot(task_id=task.id, where=task.where, chat=(*prompt, {"role": "assistant", "content": answer}))


def _text(value: Any) -> str:
    """Return an answer as text; empty if it is neither text nor a number."""
    if isinstance(value, str):
        return value if value.strip() else ""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return str(value) if is_number else ""


def _too_few(num_found: int, train: Collection[Task], num: int, column: str | None, needs_spare: bool) -> str:
    place = f"the column {column}" if column is not None else f"a column {' or '.join(LIKELY_COLUMNS)}"
    needed = f"{num + 1} are needed, because no prompt shows its own answer" if needs_spare else f"{num} are needed"
    return (
        f"data.shots={num}: {num_found} of the {len(train)} training tasks can be shown as worked examples (different "
        f"prompts, not held out, with an answer in {place}), and {needed}; name the column of the answers in "
        "data.shot_answer, give more training tasks, or lower data.shots"
    )


def _without_system(messages: Sequence[Message]) -> tuple[Message, ...]:
    return tuple(message for message in messages if message["role"] not in _SYSTEM)


def _key(messages: Sequence[Message]) -> str:
    """Return a key of a prompt that does not depend on the system message."""
    return prompt_key(_without_system(messages))
