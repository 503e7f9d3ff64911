"""Compares the conversation that an agent sends with the one that the episode has recorded.

The tokens of an episode only grow. A request may therefore add messages of users and tools after the last turn of the
policy. An agent that sends anything else has rewritten its history, which is called a fork.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rft.episodes.conversation import NOTHING_WRITTEN, Written
from rft.types import Message

SHOWN_CHARS = 60


class Forked(Exception):
    """The agent has rewritten its history. The message says how."""


def canonical(message: Message) -> str:
    """Return a text that is equal for equal messages.

    Absent content is empty, and arguments of calls are compared as JSON values. White space at the ends of the
    assistant's message does not count, because many agents strip it; the tokens keep it.
    """
    content = str(message.get("content") or "")
    key: list[Any] = [message["role"], content.strip() if message["role"] == "assistant" else content]
    key += [message.get(name) or "" for name in ("name", "tool_call_id")]
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        key.append([call.get("id"), function.get("name"), _arguments(function.get("arguments"))])
    return json.dumps(key, sort_keys=True)


def _arguments(arguments: Any) -> Any:
    try:
        return json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        return arguments


def digest(messages: Sequence[Message], tools: Sequence[Any]) -> str:
    """Return a text that is equal for requests for the same turn."""
    return json.dumps([[canonical(message) for message in messages], list(tools)], sort_keys=True)


def joined(messages: Sequence[Message]) -> list[Message]:
    """Return the messages, with texts that continue a message of the assistant as a part of it."""
    chat: list[Message] = []
    for message in messages:
        if chat and message["role"] == chat[-1]["role"] == "assistant":
            chat[-1] = {**chat[-1], "content": f"{chat[-1]['content']}{message['content']}"}
        else:
            chat.append(message)
    return chat


def added(
    recorded: Sequence[Message], sent: Sequence[Message], *, said: Sequence[str]
) -> tuple[Written, list[Message]]:
    """Return what a request adds to the recorded conversation.

    Args:
        recorded: All messages so far; the last one is the policy's.
        sent: The messages of the request.
        said: Readings of the last turn, from the longest, if it has no end token because a text of `stop` ended it.
            An agent may write on in such a turn.

    Returns:
        What the agent has written into the policy's last turn, and the messages after it.

    Raises:
        Forked: The request does not continue the conversation.
    """
    for place, (ours, theirs) in enumerate(zip(recorded, sent, strict=False)):
        if canonical(ours) == canonical(theirs):
            continue
        is_last = place == len(recorded) - 1
        if not is_last or (written := _written(ours, theirs, said)) is None:
            raise Forked(_difference(place, ours, theirs))
        return written, _news(recorded, sent)
    return NOTHING_WRITTEN, _news(recorded, sent)


def _written(ours: Message, theirs: Message, said: Sequence[str]) -> Written | None:
    """Return what follows the policy's own text; None if the message does not begin with it."""
    if theirs["role"] != "assistant" or ours.get("tool_calls") or theirs.get("tool_calls"):
        return None
    text = theirs["content"].lstrip()
    own = str(ours["content"]).lstrip()
    for reading in (each.lstrip() for each in said):
        if reading and text.startswith(reading):
            return Written(text=text[len(own) :], new=text[len(reading) :])
    return None


def _news(recorded: Sequence[Message], sent: Sequence[Message]) -> list[Message]:
    if len(sent) <= len(recorded):
        what = "asks once more for its last turn" if len(sent) == len(recorded) - 1 else "goes back to an earlier turn"
        raise Forked(f"it {what}")
    news = list(sent[len(recorded) :])
    for place, message in enumerate(news, start=len(recorded) + 1):
        if message["role"] == "assistant":
            raise Forked(f"message {place} is the assistant's, but the policy never said it: {_shown(message)}")
    return news


def _difference(place: int, ours: Message, theirs: Message) -> str:
    if place == 0:
        return f"it begins another conversation, with {_shown(theirs)}"
    whose = "the policy said" if ours["role"] == "assistant" else "it was"
    return f"message {place + 1} is now {_shown(theirs)}, but {whose} {_shown(ours)}"


def _shown(message: Message) -> str:
    content = str(message.get("content") or "")
    text = content if len(content) <= SHOWN_CHARS else content[:SHOWN_CHARS] + "..."
    calls = ", ".join(str((call.get("function") or {}).get("name")) for call in message.get("tool_calls") or ())
    return f"{message['role']}: {text!r}" + (f" with calls of {calls}" if calls else "")
