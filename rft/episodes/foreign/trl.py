"""The classes of TRL's `environment_factory` (https://huggingface.co/docs/trl/openenv).

The public methods of a class are tools. `reset(**row)` begins an episode, and may return a text; `get_reward()`, if
there is one, returns the reward. rft plays such a class as a class of tools, with the one difference that a
`ValueError` of a tool is told to the policy: TRL's documentation recommends it for wrong actions and for the end of a
game.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from rft.episodes.tools.sources import ClassSource
from rft.episodes.tools.tool import OpenTools, Tool, ToolError
from rft.types import Task


class TrlSource(ClassSource):
    """A class of TRL as a source of tools. The arguments are those of `ClassSource`."""

    @asynccontextmanager
    async def open(self, task: Task, seed: int) -> AsyncIterator[OpenTools]:
        """Make an instance for an episode."""
        async with super().open(task, seed) as opened:
            yield replace(opened, tools=[_telling(tool) for tool in opened.tools])


def _telling(tool: Tool) -> Tool:
    """Return a tool whose `ValueError` is told to the policy."""

    async def call(arguments: Mapping[str, Any]) -> Any:
        try:
            return await tool.call(arguments)
        except ValueError as error:
            raise ToolError(str(error)) from error

    return replace(tool, call=call)


def source_of(target: Any, options: Mapping[str, Any], timeout_s: float) -> TrlSource:
    """Return the source of a class.

    Raises:
        ValueError: It is no class with a method `reset`, or a method has no schema.
    """
    if not isinstance(target.object, type) or not callable(getattr(target.object, "reset", None)):
        raise ValueError("environment.style=trl: name a class with a method reset, as environment_factory takes it")
    return TrlSource("environment", target, options, timeout_s)
