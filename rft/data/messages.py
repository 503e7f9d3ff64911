"""Chats in OpenAI's format: from an untrusted row to the messages of a task, and when two prompts are the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rft.types import Message

ROLES = ("system", "developer", "user", "assistant", "tool")
"""Who may speak in a chat."""


class BadRow(ValueError):
    """A row that cannot become a task; its text says what is wrong and what to do."""


def to_messages(prompt: Any, *, column: str) -> tuple[Message, ...]:
    """Check a prompt and bring it into one form: every content is a string, no key holds null.

    Args:
        prompt: As it was read: a string, which is one user message, or a list of messages.
        column: Where it comes from, `prompt` or `messages`, for messages.

    Raises:
        BadRow: It is no prompt to complete.
    """
    if isinstance(prompt, str) and column == "prompt":
        prompt = [{"role": "user", "content": prompt}]
    if not isinstance(prompt, list):
        allowed = 'a list of {"role", "content"}' + (" or a string" if column == "prompt" else "")
        raise BadRow(f'"{column}" must be {allowed}, not {type_name(prompt)}')
    if not prompt:
        raise BadRow(f'"{column}" is empty; it needs at least one user message')
    messages = tuple(_to_message(message, f'"{column}"[{index}]') for index, message in enumerate(prompt))
    for text in texts(messages):
        _refuse_surrogates(text, column)
    last = messages[-1]
    if last["role"] == "assistant":
        raise BadRow(f'"{column}" ends with the assistant\'s message; leave it out, the model is to write it')
    if not last["content"].strip():
        raise BadRow(f'"{column}" is empty: the {last["role"]}\'s last message has no text')
    return messages


def raw_prompt(prompt: Any, *, column: str) -> tuple[Message, ...]:
    """Check a prompt that goes to the model as it is; it is kept as what one user says.

    Raises:
        BadRow: It is a chat, or no text.
    """
    if column == "messages" or isinstance(prompt, list):
        raise BadRow(
            f'"{column}" is a chat, and data.format=raw sends a text without a chat template; write the text into '
            '"prompt", or use data.format=chat'
        )
    return to_messages(prompt, column=column)


def with_system(messages: tuple[Message, ...], system: str | None) -> tuple[Message, ...]:
    """Put a system message first, unless there is none to put or the chat has one (`developer` is the newer name)."""
    if system is None or any(message["role"] in ("system", "developer") for message in messages):
        return messages
    return ({"role": "system", "content": system}, *messages)


def prompt_key(messages: Sequence[Message]) -> str:
    """What two prompts have in common exactly when they are the same but for white space."""
    return json.dumps([[message["role"], *message["content"].split()] for message in messages])


def texts(value: Any) -> Iterator[str]:
    """Every text in plain values, names of fields included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from texts(name)
            yield from texts(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from texts(each)


def type_name(value: Any) -> str:
    """The type of a value in JSON's words, with its article."""
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    names |= {list: "a list", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")


def _to_message(message: Any, where: str) -> Message:
    if not isinstance(message, dict):
        raise BadRow(f'{where} must be an object with "role" and "content", not {type_name(message)}')
    role = message.get("role")
    if role not in ROLES:
        raise BadRow(f"{where} has the role {json.dumps(role, default=str)}; allowed: {', '.join(ROLES)}")
    # Null means absent: Arrow, and so Parquet and the hub, fills it in wherever another row has the key.
    present = {key: value for key, value in message.items() if value is not None}
    if role == "assistant" and present.get("tool_calls"):
        present.setdefault("content", "")
    return {**present, "content": _to_text(present.get("content"), f"{where}.content")}


def _refuse_surrogates(text: str, column: str) -> None:
    r"""JSON may write an emoji as two halves, `\ud83d\ude00`; one half is no character, which tokenizers refuse."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRow(
            f'"{column}" has half of a character, \\u{ord(text[error.start]):04x} at position {error.start + 1} of '
            f"{json.dumps(text[:20])}...; a text was probably cut inside an emoji; write the whole one or take it out"
        ) from error


def _to_text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRow(f"{where} must be a string or a list of text parts, not {type_name(content)}")
    texts = [_part_text(part, f"{where}[{index}]") for index, part in enumerate(content)]
    # Joined as vLLM joins them, since most chat templates only take strings.
    return "\n".join(texts)


def _part_text(part: Any, where: str) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise BadRow(f'{where} must be {{"type": "text", "text": "..."}}; images, audio and the like are not supported')
