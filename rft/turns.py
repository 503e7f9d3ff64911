"""The turns of an episode: parts of one completion, each with its author. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

PASSAGES = "passages"
"""Key of a message with the passages that it tells, for graders; the policy sees only the content. Also the column of a
task with those of its prompt."""


class Author(StrEnum):
    """Author of the tokens of a turn."""

    POLICY = "policy"
    """The sampled policy; the learner trains on these tokens."""
    ENVIRONMENT = "environment"
    """The environment, a tool, or the chat template; the learner only reads these tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One part of a completion of several turns.

    Example:
        Turn(author=Author.POLICY, start=0, end=5, messages=({"role": "assistant", "content": "16"},))
    """

    author: Author
    """Author of the tokens."""
    start: int
    """Position of the first token in `Rollout.completion_ids`."""
    end: int
    """Position after the last token."""
    messages: tuple[Mapping[str, Any], ...] = ()
    """The messages of these tokens in OpenAI's format; empty for tokens that only the chat template writes."""
    reward: float | None = None
    """The reward that the environment gave for a turn of the policy; None if it gave none."""


def trained_tokens(turns: Sequence[Turn], num_tokens: int) -> tuple[bool, ...]:
    """Return `[C]` whether the policy sampled each token of a completion. Without turns, it sampled all.

    Raises:
        ValueError: The turns do not divide the completion.
    """
    if not turns:
        return (True,) * num_tokens
    ends = [0, *(turn.end for turn in turns)]
    if [turn.start for turn in turns] != ends[:-1] or ends != sorted(ends) or ends[-1] != num_tokens:
        spans = [(turn.start, turn.end) for turn in turns]
        raise ValueError(f"the turns {spans} do not divide a completion of {num_tokens} tokens")
    return tuple(turn.author is Author.POLICY for turn in turns for _ in range(turn.start, turn.end))


def calls_of(turns: Sequence[Turn]) -> list[Mapping[str, Any]]:
    """Return all tool calls of the policy, in OpenAI's format and in order."""
    of_policy = (turn for turn in turns if turn.author is Author.POLICY)
    return [call for turn in of_policy for message in turn.messages for call in message.get("tool_calls") or ()]


def passages_of(turns: Sequence[Turn]) -> list[Mapping[str, Any]]:
    """Return the passages that tools told the policy, each once, in order."""
    found: dict[tuple[Any, Any], Mapping[str, Any]] = {}
    given = (turn for turn in turns if turn.author is Author.ENVIRONMENT)
    for message in (message for turn in given for message in turn.messages if message.get("role") == "tool"):
        for passage in message.get(PASSAGES) or ():
            found.setdefault((passage["id"], passage["text"]), passage)
    return list(found.values())


def without_passages(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a message as the policy sees it."""
    return {name: value for name, value in message.items() if name != PASSAGES} if PASSAGES in message else message


def turn_to_json(turn: Turn) -> dict[str, Any]:
    """Return a turn as JSON values."""
    values = {"author": turn.author, "start": turn.start, "end": turn.end, "messages": list(turn.messages)}
    return values if turn.reward is None else {**values, "reward": turn.reward}


def turn_from_json(values: Mapping[str, Any]) -> Turn:
    """Return the turn of `turn_to_json`.

    Raises:
        KeyError: A value is missing.
        ValueError: The author is unknown.
    """
    author, messages = Author(values["author"]), tuple(values["messages"])
    reward = values.get("reward")
    return Turn(author=author, start=values["start"], end=values["end"], messages=messages, reward=reward)
