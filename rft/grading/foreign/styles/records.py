"""Replacements for the objects that inspect_ai and verifiers pass to a scorer, with the data of one completion.

The real objects belong to a running evaluation. A scorer that uses another attribute raises an AttributeError, which
is a grader error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, overload


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """A message with attributes instead of keys."""

    role: str
    """`system`, `user`, `assistant` or `tool`."""
    content: str
    """The text."""

    @property
    def text(self) -> str:
        """The text, under inspect_ai's name."""
        return self.content


class Target(Sequence[str]):
    """inspect_ai's target: one or more accepted answers.

    Args:
        answers: The accepted answers.
    """

    def __init__(self, answers: Sequence[str]) -> None:
        self.target = list(answers)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self.target[index]

    def __len__(self) -> int:
        return len(self.target)

    @property
    def text(self) -> str:
        """All answers, joined."""
        return "".join(self.target)


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """inspect_ai's output of a model."""

    completion: str
    """The text."""
    stop_reason: str
    """`stop` or `max_tokens`."""

    @property
    def message(self) -> ChatMessage:
        """The text as a message."""
        return ChatMessage("assistant", self.completion)

    @property
    def choices(self) -> list[SimpleNamespace]:
        """The only choice."""
        return [SimpleNamespace(message=self.message, stop_reason=self.stop_reason)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
    """inspect_ai's state of a sample after the model's answer."""

    sample_id: str
    """The task's id."""
    input: list[ChatMessage]
    """The prompt."""
    output: ModelOutput
    """The completion."""
    target: Target
    """The accepted answers."""
    metadata: dict[str, Any]
    """The task's columns."""
    epoch: int = 1
    """Position in the group, from 1."""
    completed: bool = True
    """Always true."""
    store: dict[str, Any] = field(default_factory=dict)
    """Always empty."""

    @property
    def messages(self) -> list[ChatMessage]:
        """The whole conversation."""
        return [*self.input, self.output.message]

    @property
    def user_prompt(self) -> ChatMessage:
        """The last message of the user."""
        return [message for message in self.input if message.role == "user"][-1]

    @property
    def input_text(self) -> str:
        """The text of the last message of the user."""
        return self.user_prompt.content


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """verifiers' trace of a conversation of one turn."""

    id: str
    """The task's id and the position in the group."""
    task: SimpleNamespace
    """The row, equal to the reward's argument `task`."""
    messages: list[ChatMessage]
    """The whole conversation."""
    is_truncated: bool
    """Whether the completion was cut at the limit."""
    num_turns: int = 1
    """Always 1."""
    has_error: bool = False
    """Always false."""

    @property
    def assistant_messages(self) -> list[ChatMessage]:
        """The completion."""
        return [message for message in self.messages if message.role == "assistant"]

    @property
    def last_message(self) -> ChatMessage:
        """The completion."""
        return self.messages[-1]

    @property
    def last_reply(self) -> str:
        """The completion's text, stripped."""
        return self.messages[-1].content.strip()
