"""Turns rows into preferences: prompts with a chosen and a rejected answer.

A row has `prompt` (or `messages`), `chosen` and `rejected`. Answers are strings, or chats that end with the
assistant's answer. Without a prompt, both chats must begin with the same one. OpenAI's format (`input`,
`preferred_output`, `non_preferred_output`) is read, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from rft.data.demonstration_records import Preference
from rft.data.messages import BadRow, prompt_key, raw_prompt, to_chat, to_messages, type_name, with_system
from rft.data.tasks import digest, id_of, prompt_column
from rft.types import Message, Split

_COLUMNS = ("messages", "prompt", "chosen", "rejected")
_OPENAI_COLUMNS = ("input", "preferred_output", "non_preferred_output")


class _Parts(NamedTuple):
    """The parts of a row."""

    prompt: tuple[Message, ...]
    chosen: Message
    rejected: Message
    item: dict[str, Any]
    """All other columns."""


def to_preference(
    content: Mapping[str, Any],
    *,
    split: Split,
    system: str | None,
    where: str = "",
    format: Literal["chat", "raw"] = "chat",
) -> Preference:
    """Turn a row, read at `where`, into a preference.

    Raises:
        BadRow: The row is not a preference.
    """
    is_openais = content.get("preferred_output") is not None
    parts = _of_openai(content) if is_openais else _of_columns(content, is_raw=format == "raw")
    for column, answer in zip(_OPENAI_COLUMNS[1:] if is_openais else _COLUMNS[2:], parts[1:3], strict=True):
        if not answer["content"].strip() and not answer.get("tool_calls"):
            raise BadRow(f'"{column}" has no text; remove the row')
    if parts.chosen == parts.rejected:
        raise BadRow("both answers are the same, so neither is preferred; remove the row")
    described = {"chat": [*parts.prompt, parts.chosen], "rejected": parts.rejected, "item": parts.item}
    prompt = with_system(parts.prompt, system)
    return Preference(
        id=id_of(parts.item, default=digest(described)),
        messages=prompt,
        item=parts.item,
        split=split,
        where=where,
        chat=(*prompt, parts.chosen),
        trained=(*[False] * len(prompt), True),
        rejected=parts.rejected,
    )


def _of_openai(content: Mapping[str, Any]) -> _Parts:
    """Return the parts of a row in OpenAI's format."""
    given = content.get("input")
    if not isinstance(given, dict) or "messages" not in given:
        raise BadRow(f'"input" must be an object with "messages", not {type_name(given)}')
    answers = {column: _answer(content.get(column), column) for column in _OPENAI_COLUMNS[1:]}
    for column, (before, _) in answers.items():
        if before:
            raise BadRow(f'"{column}" must contain the answer alone, as one message of the assistant')
    chosen, rejected = (answer for _, answer in answers.values())
    item = {name: value for name, value in content.items() if name not in _OPENAI_COLUMNS}
    if given.get("tools"):
        item["tools"] = given["tools"]
    return _Parts(to_messages(given["messages"], column="input.messages"), chosen, rejected, item)


def _of_columns(content: Mapping[str, Any], *, is_raw: bool) -> _Parts:
    """Return the parts of a row with the columns `chosen` and `rejected`."""
    for column in _COLUMNS[2:]:
        if content.get(column) is None:
            raise BadRow(
                f'no "{column}": a preference needs a chosen and a rejected answer; add the column, or map one with '
                f"data.columns.{column}=<column>"
            )
        if is_raw and not isinstance(content[column], str):
            raise BadRow(f'"{column}" must be a string, because data.format=raw uses no chat template')
    (before, chosen), (also_before, rejected) = (_answer(content[column], column) for column in _COLUMNS[2:])
    prompt = _prompt(content, before, is_raw=is_raw)
    for column, earlier in (("chosen", before), ("rejected", also_before)):
        if earlier and prompt_key(earlier) != prompt_key(prompt):
            raise BadRow(f'"{column}" begins with another prompt; both answers must belong to the same prompt')
    item = {name: value for name, value in content.items() if name not in _COLUMNS}
    return _Parts(prompt, chosen, rejected, item)


def _prompt(content: Mapping[str, Any], before: tuple[Message, ...], *, is_raw: bool) -> tuple[Message, ...]:
    """Return the prompt of a row: its own column, or the beginning of the chosen chat."""
    if before and not any(content.get(column) is not None for column in _COLUMNS[:2]):
        return to_messages(list(before), column="chosen")
    column = prompt_column(content)
    return (raw_prompt if is_raw else to_messages)(content[column], column=column)


def _answer(value: Any, column: str) -> tuple[tuple[Message, ...], Message]:
    """Return an answer, and the messages before it."""
    if isinstance(value, str):
        value = [{"role": "assistant", "content": value}]
    *before, answer = to_chat(value, column=column)
    if answer["role"] != "assistant":
        raise BadRow(f"\"{column}\" ends with the {answer['role']}'s message; it must end with the assistant's answer")
    return tuple(before), answer
