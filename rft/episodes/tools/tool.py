"""The definition of a tool, and of a source that opens tools for each episode."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from rft.types import Task


class ToolError(Exception):
    """A mistake of the model, such as a city that does not exist. The model is told the message, and goes on."""


class ToolFault(Exception):
    """A tool failed through no fault of the model. The episode has no reward; the message begins with the cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the policy may call.

    Example:
        Tool(name="add", description="Add two numbers.", parameters={"type": "object", "properties": {...}}, call=add)
    """

    name: str
    """Name, as the model writes it."""
    description: str
    """Meaning, for the model."""
    parameters: Mapping[str, Any]
    """JSON Schema of the arguments, an object."""
    call: Callable[[Mapping[str, Any]], Awaitable[Any]]
    """Runs the tool with checked arguments. `ToolError` is told to the model; any other exception is a fault."""
    timeout_s: float = 30.0
    """Deadline of a call."""
    program_s: float | None = None
    """Time limit of the program of the model that a call runs, in seconds; None if it runs none."""

    def schema(self) -> dict[str, Any]:
        """Return the tool in OpenAI's format."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPassages:
    """A result that consists of passages. Graders find them in `item["passages"]`.

    Example:
        FoundPassages(text="[p1] Water it.", passages=[{"id": "p1", "text": "Water it.", "metadata": {}, "score": 0.9}])
    """

    text: str
    """What the model is told."""
    passages: Sequence[Mapping[str, Any]]
    """The passages, each with `id`, `text`, `metadata` and `score`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTools:
    """The tools of one source in one episode.

    Example:
        OpenTools(tools=(add,))
    """

    tools: Sequence[Tool]
    """The tools."""
    says: str = ""
    """A user's message at the start of the episode, after the prompt of the row; empty for none."""
    get_reward: Callable[[], Awaitable[Any]] | None = None
    """Returns the score of the episode after its end; None if the source gives none."""


class ToolSource(Protocol):
    """Opens the tools of one entry of `tools` for each episode."""

    name: str
    """Name of the entry."""
    file: str
    """File of its code; empty without one."""
    sha256: str
    """SHA-256 that changes with its code or its tools."""
    has_score: bool
    """Whether it may give the score of an episode."""
    speaks: bool
    """Whether it may say something at the start of an episode, so that a row needs no prompt."""

    def declarations(self) -> Sequence[Mapping[str, Any]]:
        """Return the tools in OpenAI's format, before the first step.

        Raises:
            ValueError: They cannot be told, with the reason and the remedy.
        """

    def open(self, task: Task, seed: int) -> AbstractAsyncContextManager[OpenTools]:
        """Open the tools for an episode, and close them after it.

        Args:
            task: The task of the episode.
            seed: The seed of the environment, equal for all episodes of a group.
        """
