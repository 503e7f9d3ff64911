"""Turns rows into demonstrations: chats in which the learner trains what the assistant says.

A row has `messages` that end with the assistant's message (OpenAI's format for fine-tuning, with an optional `weight`
of 0 or 1 on each of the assistant's messages), or `prompt` (or `messages`) and `completion`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from rft.data.demonstration_records import Demonstration
from rft.data.messages import BadRow, raw_prompt, to_chat, to_messages, type_name, with_system
from rft.data.tasks import digest, id_of, prompt_column, to_task
from rft.types import Message, Split, Task

_OF_THE_CHAT = ("messages", "prompt", "completion")


def to_demonstration(
    content: Mapping[str, Any],
    *,
    split: Split,
    system: str | None,
    where: str = "",
    format: Literal["chat", "raw"] = "chat",
) -> Demonstration:
    """Turn a row, read at `where`, into a demonstration.

    Raises:
        BadRow: The row is not a demonstration.
    """
    given = _completed(content, format) if content.get("completion") is not None else _chat(content, format)
    weights = [_weight(message, f'"messages"[{index}]') for index, message in enumerate(given)]
    trained = [weight == 1 and message["role"] == "assistant" for weight, message in zip(weights, given, strict=True)]
    chat = tuple({name: value for name, value in message.items() if name != "weight"} for message in given)
    if not any(trained):
        raise BadRow('the weight of every assistant\'s message is 0, so nothing is trained; set "weight" to 1 on one')
    for index, message in enumerate(chat):
        if trained[index] and not message["content"].strip() and not message.get("tool_calls"):
            place = '"completion"' if "completion" in content else f'"messages"[{index}]: the assistant\'s message'
            raise BadRow(f"{place} has no text; remove the row")
    item = {name: value for name, value in content.items() if name not in _OF_THE_CHAT}
    whole = with_system(chat, system)
    return Demonstration(
        id=id_of(item, default=digest({"chat": chat, "item": item})),
        messages=whole[:-1],
        item=item,
        split=split,
        where=where,
        chat=whole,
        trained=(*[False] * (len(whole) - len(chat)), *trained),
    )


def _completed(content: Mapping[str, Any], format: str) -> tuple[Message, ...]:
    """Return the prompt and the completion of a row as one chat."""
    column = prompt_column(content)
    prompt = (raw_prompt if format == "raw" else to_messages)(content[column], column=column)
    completion = content["completion"]
    if isinstance(completion, list) and len(completion) == 1 and isinstance(completion[0], dict):
        completion = completion[0].get("content")  # a chat of one message, as other libraries write it
    if not isinstance(completion, str):
        raise BadRow(f'"completion" must be a string, not {type_name(completion)}')
    return (*prompt, *to_chat([{"role": "assistant", "content": completion}], column="completion"))


def _chat(content: Mapping[str, Any], format: str) -> tuple[Message, ...]:
    """Return the messages of a row."""
    column = prompt_column(content)
    if format == "raw" or column == "prompt":
        raise BadRow(
            'no "completion": a demonstration needs what the model should answer; add the column, or map one with '
            "data.columns.completion=<column>"
        )
    chat = to_chat(content[column], column=column)
    if chat[-1]["role"] != "assistant":
        raise BadRow(
            f"\"{column}\" ends with the {chat[-1]['role']}'s message; a demonstration ends with the assistant's answer"
        )
    if len(chat) == 1:
        raise BadRow(f'"{column}" has only the assistant\'s message; a demonstration needs a prompt before it')
    to_messages([*chat[:-1]], column=column)  # what comes before must be a prompt
    return chat


def _weight(message: Message, where: str) -> int:
    """Return the weight of a message: 1 unless given."""
    weight = message.get("weight", 1)
    if isinstance(weight, bool) or weight not in (0, 1):
        raise BadRow(f"{where}.weight must be 0 or 1, not {weight!r}")
    if "weight" in message and message["role"] != "assistant":
        raise BadRow(f"{where} has a weight, but the role {message['role']}; only the assistant's messages are trained")
    return int(weight)


def to_answered_task(
    content: Mapping[str, Any],
    *,
    split: Split,
    system: str | None,
    where: str = "",
    format: Literal["chat", "raw"] = "chat",
) -> Task:
    """Turn a row into a task to measure; into a demonstration if it contains what the model should answer.

    Raises:
        BadRow: The row is neither.
    """
    if content.get("completion") is None:
        chat = content.get("messages")
        last = chat[-1] if isinstance(chat, list) and chat else None
        is_answered = isinstance(last, dict) and last.get("role") == "assistant"
        convert = to_demonstration if is_answered else to_task
        return convert(content, split=split, system=system, where=where, format=format)
    demonstration = to_demonstration(content, split=split, system=system, where=where, format=format)
    task = to_task(content, split=split, system=system, where=where, format=format)
    return replace(demonstration, id=task.id, item=task.item)  # sampled and graded as without the answer
