"""The built-in tools as sources of tools."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from pydantic import ValidationError

from rft.episodes.tools.built_in.base import BuiltIn
from rft.episodes.tools.built_in.calculator import CalculatorTool
from rft.episodes.tools.built_in.cells import PythonTool
from rft.episodes.tools.built_in.database import SqlTool
from rft.episodes.tools.built_in.workspace import FilesTool
from rft.episodes.tools.tool import OpenTools, Tool
from rft.types import Task
from rft.wording import expectation

BUILT_IN: Mapping[str, type[BuiltIn]] = {
    "calculator": CalculatorTool,
    "files": FilesTool,
    "python": PythonTool,
    "sql": SqlTool,
}
"""The built-in tools, by the value of `use`."""
SANDBOX_S = 2.0
"""Time for the start and the end of a program in the sandbox: a slow program ends before the deadline of its call."""


class BuiltInSource:
    """A built-in tool, with a state of its own for each episode.

    Args:
        name: Name of the entry.
        use: Key of `BUILT_IN`.
        options: The options of the tool.
        timeout_s: Deadline of a call, with the wait for a free place in the sandbox.

    Raises:
        ValueError: An option is wrong, or the sandbox does not work on this machine.
    """

    has_score = speaks = False
    file = ""

    def __init__(self, name: str, use: str, options: Mapping[str, Any], timeout_s: float) -> None:
        kind = BUILT_IN[use]
        try:
            self._tool = kind(**options)
        except ValidationError as error:
            problems = [f"options.{'.'.join(map(str, each['loc']))}: {expectation(each)}" for each in error.errors()]
            known = f"the options of {use} are {', '.join(kind.model_fields)}" if kind.model_fields else "it has none"
            raise ValueError(f"{'; '.join(problems)}; {known}") from error
        if (seconds := getattr(self._tool, "seconds", 0.0)) > timeout_s - SANDBOX_S:
            raise ValueError(
                f"options.seconds={seconds:g} must be at least {SANDBOX_S:g} s below timeout_s={timeout_s:g}; raise "
                "timeout_s"
            )
        self._tool.require()
        self.name, self._timeout_s = name, timeout_s
        identity = json.dumps([use, self._tool.model_dump(), self.declarations()], sort_keys=True)
        self.sha256 = hashlib.sha256(identity.encode()).hexdigest()

    def declarations(self) -> list[dict[str, Any]]:
        """Return the tools in OpenAI's format."""
        return [
            {"type": "function", "function": {"name": name, "description": text, "parameters": _parameters(meaning)}}
            for name, (text, meaning) in self._tool.described(self.name).items()
        ]

    def require_task(self, task: Task) -> None:
        """Check that a task has what the tool works on.

        Raises:
            ValueError: It has not.
        """
        try:
            self._tool.calls(self.name, task)
        except ValueError as error:
            raise ValueError(f"tools.{self.name}: {error}") from error

    @asynccontextmanager
    async def open(self, task: Task, seed: int) -> AsyncIterator[OpenTools]:
        """Make the tools of an episode.

        Raises:
            ValueError: The task lacks what the tool works on.
        """
        described = self._tool.described(self.name)
        yield OpenTools(
            tools=[
                Tool(
                    name=name,
                    description=described[name][0],
                    parameters=_parameters(described[name][1]),
                    call=call,
                    timeout_s=self._timeout_s,
                    program_s=getattr(self._tool, "seconds", None),
                )
                for name, call in self._tool.calls(self.name, task).items()
            ]
        )


def _parameters(meaning: Mapping[str, str]) -> dict[str, Any]:
    properties = {name: {"type": "string", "description": text} for name, text in meaning.items()}
    return {"type": "object", "properties": properties, "required": list(meaning)}
