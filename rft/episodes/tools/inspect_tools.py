"""Tools of inspect_ai (https://inspect.aisi.org.uk), which are told by their entry in its registry.

A tool is a function with the decorator `@tool` that makes the function to call. Every episode makes its own. Tools that
need inspect_ai's sandbox or model do not run outside of its tasks.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from rft.episodes.tools.tool import OpenTools, Tool, ToolError
from rft.grading.loading.targets import Target
from rft.grading.normalise import describe_error
from rft.types import Task

PACKAGE = "inspect_ai"
_TOLD = (TimeoutError, UnicodeDecodeError, PermissionError, FileNotFoundError, IsADirectoryError)
"""Errors that inspect_ai tells the model, beside its own `ToolError`."""


def is_inspect_tool(target: object) -> bool:
    """Whether inspect_ai's decorator `@tool` has marked a function."""
    mark = getattr(target, "__registry_info__", None)
    return type(mark).__module__.partition(".")[0] == PACKAGE and getattr(mark, "type", None) == "tool"


class InspectSource:
    """A tool of inspect_ai, under the name of its entry.

    Args:
        name: Name of the entry.
        target: The decorated function and its file.
        options: Its arguments.
        timeout_s: Deadline of a call.

    Raises:
        ValueError: It cannot be made, or a parameter has no description.
    """

    has_score = speaks = False

    def __init__(self, name: str, target: Target, options: Mapping[str, Any], timeout_s: float) -> None:
        self.name, self.file = name, target.file
        self._make, self._options, self._timeout_s = target.object, dict(options), timeout_s
        # By name, since rft does not depend on it: the user's file has imported it already.
        self._library = importlib.import_module(f"{PACKAGE}.tool")
        try:
            definition = self._library.ToolDef(self._make(**self._options))
        except Exception as error:  # the user's code
            raise ValueError(f"the tool cannot be made: {describe_error(error, target.file)}") from error
        self._description = definition.description
        self._parameters = definition.parameters.model_dump(mode="json", exclude_none=True)
        declared = json.dumps(self.declarations(), sort_keys=True)
        self.sha256 = hashlib.sha256(f"{target.sha256} {declared}".encode()).hexdigest()

    def declarations(self) -> list[dict[str, Any]]:
        """Return the tool in OpenAI's format."""
        return [self._tool(None).schema()]

    @asynccontextmanager
    async def open(self, task: Task, seed: int) -> AsyncIterator[OpenTools]:
        """Make the tool for an episode."""
        yield OpenTools(tools=(self._tool(self._make(**self._options)),))

    def _tool(self, function: Any) -> Tool:
        async def call(arguments: Mapping[str, Any]) -> str:
            try:
                result = await function(**arguments)
            except (self._library.ToolError, *_TOLD) as error:
                raise ToolError(str(error)) from error
            parts = result if isinstance(result, list) else [result]
            return "\n".join(map(_text, parts))

        return Tool(
            name=self.name,
            description=self._description,
            parameters=self._parameters,
            call=call,
            timeout_s=self._timeout_s,
        )


def _text(part: Any) -> str:
    """Return the text of a part of a result; anything else is named and left out."""
    kind = getattr(part, "type", None)
    if kind is None:
        return str(part)
    return str(part.text) if kind == "text" else f"[{kind} left out]"
