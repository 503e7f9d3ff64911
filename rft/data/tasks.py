"""Turns rows into tasks. Checks every row, and reports all problems of a source together."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from rft.data.files import Flaw, data_error
from rft.data.messages import BadRow, raw_prompt, to_messages, type_name, with_system
from rft.data.sources import read_rows
from rft.errors import DataError
from rft.types import Split, Task

MAX_SHOWN_FLAWS = 20
"""Number of different flaws of a source to show; the rest is only counted."""

_PARTICULARS = re.compile(r'"(?:[^"\\]|\\.)*"|\d+')
"""The parts that differ between messages about the same flaw: numbers and quoted values."""

_LIKELY_PROMPTS = ("question", "problem", "instruction", "query", "input", "text")


def read_tasks(
    source: str,
    *,
    key: str,
    split: Split,
    columns: Mapping[str, str],
    system: str | None,
    format: Literal["chat", "raw"] = "chat",
) -> list[Task]:
    """Read all tasks of a source.

    A row needs `messages` (a chat in OpenAI's format) or `prompt` (a string, which is one user message, or a chat).
    All other columns go into `Task.item` unchanged.

    Args:
        source: See `rft.data.sources.read_rows`.
        key: The configuration key that names the source, for messages, such as `data.train`.
        split: The purpose of the tasks.
        columns: Maps rft's column names to those of the source, such as `{"prompt": "question"}`.
        system: System message for chats without one.
        format: With `raw`, prompts must be texts.

    Raises:
        DataError: Contains every flaw of the source, or the reason why the source is unreadable.
    """
    return read_with(to_task, source, key=key, split=split, columns=columns, system=system, format=format)


def read_with(
    convert: Callable[..., Task], source: str, *, key: str, columns: Mapping[str, str], **options: Any
) -> list[Task]:
    """Read all rows of a source, and convert each.

    Args:
        convert: `to_task`, or another function with its arguments.
        source: See `rft.data.sources.read_rows`.
        key: The configuration key that names the source.
        columns: Maps rft's column names to those of the source.
        options: Arguments of `convert`.

    Raises:
        DataError: Contains every flaw of the source, or the reason why the source is unreadable.
    """
    tasks: list[Task] = []
    flaws: list[Flaw] = []
    seen: dict[str, str] = {}
    for row in read_rows(source, key=key):
        if isinstance(row, Flaw):
            flaws.append(row)
            continue
        try:
            content = renamed(row.content, columns)
            _refuse_repetition(content, row.where, seen)
            tasks.append(convert(content, where=row.where, **options))
        except BadRow as error:
            flaws.append(Flaw(row.where, str(error)))
    refuse_flaws(flaws, source)
    if not tasks:
        raise data_error(f"{key}={source} is empty: it contains no task")
    return tasks


def refuse_flaws(flaws: Sequence[Flaw], source: str, *, title: str = "task files") -> None:
    """Raise one error with all flaws of a source, if it has any.

    Rows with the same flaw share a line, which counts them and names the first.

    Raises:
        DataError: Contains each kind of flaw, up to `MAX_SHOWN_FLAWS`.
    """
    if flaws:
        problems = grouped((flaw.where, flaw.problem) for flaw in flaws)
        if hidden := problems[MAX_SHOWN_FLAWS:]:
            problems = [*problems[:MAX_SHOWN_FLAWS], f"{source}: and {len(hidden)} more flaws of other kinds"]
        raise DataError(title, problems)


def grouped(problems: Iterable[tuple[str, str]]) -> list[str]:
    """Return one line for each kind of problem, such as `20 rows, first at tasks.jsonl:3: no column "question"`.

    Args:
        problems: Places and problems, in order.
    """
    kinds: dict[str, list[tuple[str, str]]] = {}
    for where, problem in problems:
        kinds.setdefault(_PARTICULARS.sub("", problem), []).append((where, problem))
    return [
        f"{where}: {problem}" if len(alike) == 1 else f"{len(alike)} rows, first at {where}: {problem}"
        for alike in kinds.values()
        for where, problem in alike[:1]
    ]


def renamed(content: Any, columns: Mapping[str, str]) -> dict[str, Any]:
    """Return the row with rft's column names.

    Raises:
        BadRow: The row is not an object, or lacks a column.
    """
    if not isinstance(content, dict):
        raise BadRow(
            f'not a JSON object but {type_name(content)}; each line must be an object with "messages" or "prompt"'
        )
    for ours, theirs in columns.items():
        if theirs not in content:
            raise BadRow(f'no column "{theirs}" (data.columns.{ours}={theirs}); it has: {_names(content)}')
        if ours in content and ours not in columns.values():
            raise BadRow(f'data.columns.{ours}={theirs} would hide the existing column "{ours}"')
    kept = {name: value for name, value in content.items() if name not in columns.values()}
    return kept | {ours: content[theirs] for ours, theirs in columns.items()}


def _refuse_repetition(content: Mapping[str, Any], where: str, seen: dict[str, str]) -> None:
    """Refuse a row whose content or id is in `seen` (the first place of each); otherwise add both."""
    same = "row " + digest({name: value for name, value in content.items() if name != "id"})
    if first := seen.get(same):
        raise BadRow(f"the same row as {first}; remove one of them")
    seen[same] = where
    if (row_id := content.get("id")) is not None:
        if first := seen.get(f"id {row_id}"):
            raise BadRow(f'{first} has the same id "{row_id}"; make ids unique, or remove them')
        seen[f"id {row_id}"] = where


def to_task(
    content: Mapping[str, Any],
    *,
    split: Split,
    system: str | None,
    where: str = "",
    format: Literal["chat", "raw"] = "chat",
) -> Task:
    """Turn a row, read at `where`, into a task.

    Raises:
        BadRow: The row is not a valid task.
    """
    column = prompt_column(content)
    messages = (raw_prompt if format == "raw" else to_messages)(content[column], column=column)
    item = {name: value for name, value in content.items() if name not in ("messages", "prompt")}
    # Hashed without the system message, so that two runs that differ in `data.system` can be compared task by task.
    task_id = id_of(item, default=digest({"messages": messages, "item": item}))
    return Task(id=task_id, messages=with_system(messages, system), item=item, split=split, where=where)


def to_episode_task(
    content: Mapping[str, Any],
    *,
    split: Split,
    system: str | None,
    where: str = "",
    format: Literal["chat", "raw"] = "chat",
) -> Task:
    """Turn a row into the task of an environment, which may speak first: the row needs no prompt.

    Raises:
        BadRow: The row has columns with a prompt, and they are not valid.
    """
    if any(content.get(column) is not None for column in ("messages", "prompt")):
        return to_task(content, split=split, system=system, where=where, format=format)
    item = {name: value for name, value in content.items() if name not in ("messages", "prompt")}
    task_id = id_of(item, default=digest({"messages": [], "item": item}))
    return Task(id=task_id, messages=with_system((), system), item=item, split=split, where=where)


def id_of(item: Mapping[str, Any], *, default: str) -> str:
    """Return the row's own id, or a default.

    Raises:
        BadRow: The id is no text or integer.
    """
    row_id = item.get("id")
    if row_id is None:
        return default
    if isinstance(row_id, bool) or not isinstance(row_id, (str, int)) or row_id == "":
        raise BadRow(f'"id" must be a non-empty string or an integer, not {json.dumps(row_id)}')
    return str(row_id)


def prompt_column(content: Mapping[str, Any]) -> str:
    """Return the column with the prompt: `messages` or `prompt`.

    Raises:
        BadRow: The row has none, or both.
    """
    # Null means an absent column: Arrow, and so Parquet and the hub, cannot omit one.
    present = [column for column in ("messages", "prompt") if content.get(column) is not None]
    if len(present) == 2:
        raise BadRow('both "messages" and "prompt"; rename the unused one: data.columns.unused=messages')
    if not present:
        if empty := [column for column in ("messages", "prompt") if column in content]:
            raise BadRow(f'"{empty[-1]}" is null; set a text, or remove the row')
        texts = [name for name, value in content.items() if isinstance(value, str) and name != "id"]
        likely = next((name for name in _LIKELY_PROMPTS if name in texts), next(iter(texts), "<column>"))
        raise BadRow(
            f'neither "messages" nor "prompt"; it has: {_names(content)} (map one with data.columns.prompt={likely})'
        )
    return present[0]


def _names(content: Mapping[str, Any]) -> str:
    return ", ".join(content) or "no columns"


def digest(content: Any) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the content as canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]
