"""Chats in OpenAI's format: turns untrusted rows into messages, and compares prompts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rft.types import Message

ROLES = ("system", "developer", "user", "assistant", "tool")
"""Allowed roles of messages."""


class BadRow(ValueError):
    """A row that cannot become a task. The message states the problem and its remedy."""


def to_messages(prompt: Any, *, column: str) -> tuple[Message, ...]:
    """Check a prompt and normalise it: every content is a string, and no value is null.

    Args:
        prompt: A string, which is one user message, or a list of messages.
        column: Column of the prompt in error messages: `prompt` or `messages`.

    Raises:
        BadRow: The value is not a prompt that a model can complete.
    """
    messages = to_chat(prompt, column=column)
    last = messages[-1]
    if last["role"] == "assistant":
        raise BadRow(f'"{column}" ends with the assistant\'s message; remove it, because the model must write it')
    if not last["content"].strip():
        raise BadRow(f'"{column}" is empty: the {last["role"]}\'s last message has no text')
    return messages


def to_chat(chat: Any, *, column: str) -> tuple[Message, ...]:
    """Check and normalise messages like `to_messages`, whoever wrote the last one.

    Raises:
        BadRow: The value is not a chat.
    """
    if isinstance(chat, str) and column == "prompt":
        chat = [{"role": "user", "content": chat}]
    if not isinstance(chat, list):
        allowed = 'a list of {"role", "content"}' + (" or a string" if column == "prompt" else "")
        raise BadRow(f'"{column}" must be {allowed}, not {type_name(chat)}')
    if not chat:
        raise BadRow(f'"{column}" is empty; it needs at least one user message')
    messages = tuple(_to_message(message, f'"{column}"[{index}]') for index, message in enumerate(chat))
    for text in texts(messages):
        _refuse_surrogates(text, column)
    return messages


def raw_prompt(prompt: Any, *, column: str) -> tuple[Message, ...]:
    """Check a prompt that the model receives unchanged, and return it as one user message.

    Raises:
        BadRow: The prompt is a chat, or not a text.
    """
    if column == "messages" or isinstance(prompt, list):
        raise BadRow(
            f'"{column}" is a chat, and data.format=raw sends a text without a chat template; write the text into '
            '"prompt", or use data.format=chat'
        )
    return to_messages(prompt, column=column)


def with_system(messages: tuple[Message, ...], system: str | None) -> tuple[Message, ...]:
    """Prepend a system message, unless `system` is None or the chat has one (`developer` is the newer name)."""
    if system is None or any(message["role"] in ("system", "developer") for message in messages):
        return messages
    return ({"role": "system", "content": system}, *messages)


def has_prompt(messages: Sequence[Message]) -> bool:
    """Whether there is more than a system message; otherwise an environment speaks first."""
    return any(message["role"] not in ("system", "developer") for message in messages)


def prompt_key(messages: Sequence[Message]) -> str:
    """Return a key that is equal for prompts that differ only in white space."""
    return json.dumps([[message["role"], *message["content"].split()] for message in messages])


def texts(value: Any) -> Iterator[str]:
    """Yield every text in plain values, including names of fields."""
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
    """Return the JSON name of a value's type, with its article."""
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    names |= {list: "a list", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")


def _to_message(message: Any, where: str) -> Message:
    if not isinstance(message, dict):
        raise BadRow(f'{where} must be an object with "role" and "content", not {type_name(message)}')
    role = message.get("role")
    if role not in ROLES:
        raise BadRow(f"{where} has the role {json.dumps(role, default=str)}; allowed: {', '.join(ROLES)}")
    # Null means absent: Arrow, and so Parquet and the hub, adds it if another row has the key.
    present = {key: value for key, value in message.items() if value is not None}
    if role == "assistant" and present.get("tool_calls"):
        present.setdefault("content", "")
    return {**present, "content": _to_text(present.get("content"), f"{where}.content")}


def _refuse_surrogates(text: str, column: str) -> None:
    r"""JSON may write an emoji as two halves, `\ud83d\ude00`; tokenizers refuse a single half."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRow(
            f'"{column}" has half a surrogate pair, \\u{ord(text[error.start]):04x} at position {error.start + 1} of '
            f"{json.dumps(text[:20])}...; the text was probably cut inside an emoji; complete or remove the emoji"
        ) from error


def _to_text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRow(f"{where} must be a string or a list of text parts, not {type_name(content)}")
    texts = [_part_text(part, f"{where}[{index}]") for index, part in enumerate(content)]
    # Joined like in vLLM, because most chat templates only accept strings.
    return "\n".join(texts)


def _part_text(part: Any, where: str) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise BadRow(f'{where} must be {{"type": "text", "text": "..."}}; images, audio and other media are not supported')


def as_messages(said: str | Message | Sequence[Message] | None) -> tuple[Mapping[str, Any], ...]:
    """Return what an environment says to the policy as messages: a text is one user message.

    Raises:
        ValueError: It is neither a text nor messages with a role and content.
    """
    if said is None:
        return ()
    if isinstance(said, str):
        return ({"role": "user", "content": said},)
    messages = tuple(said) if isinstance(said, (list, tuple)) else (said,)
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str) or "content" not in message:
            raise ValueError(f"the policy takes a text, or messages with role and content, not {message!r}")
        if message["role"] == "assistant":
            raise ValueError("only the policy speaks as the assistant; say it as the user, or as a tool")
    return messages
