"""The settings of tools."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from rft.config.fields import Positive, PositiveSeconds, Section


class ToolConfig(Section):
    """A tool, or a source of several, that the policy may call. See docs/environments.md."""

    use: str | None = None
    """A function of yours, such as `my_tools.py:add`, a class whose public methods are tools, or a tool that comes with
    rft: `calculator`, `files`, `python` or `sql`."""
    mcp: str | None = None
    """An MCP server with tools, in place of `use`: a URL, or a command such as `python server.py`."""
    options: dict[str, Any] = {}
    """Further arguments of the function or class, by name, which the model does not see; or the options of the tool."""
    timeout_s: PositiveSeconds = 30.0
    """Seconds allowed for one call."""
    max_result_tokens: Positive = 1024
    """Longest result, in tokens; a longer one loses its middle."""
    allow: tuple[str, ...] | None = None
    """Tools of the MCP server that the policy may call; null allows all."""
    shared: bool = False
    """Whether all episodes of a process share one session with the MCP server; else each episode has its own."""
    env: tuple[str, ...] = ()
    """Environment variables that the command of the MCP server gets, by name; beside them it gets HOME, LOGNAME, PATH,
    SHELL, TERM and USER."""
    bearer_env: str | None = None
    """Environment variable with the token for the URL of the MCP server."""
    start_timeout_s: PositiveSeconds = 60.0
    """Seconds for the start of the MCP server."""

    def problems(self) -> list[str]:
        """Return what is wrong with an entry, as phrases that follow its key."""
        if self.use is None and self.mcp is None:
            return [": names no tool; set use=my_tools.py:function, or mcp to the URL or command of an MCP server"]
        if self.use is not None and self.mcp is not None:
            return [": has both use and mcp; keep one"]
        of_mcp = ("allow", "shared", "env", "bearer_env", "start_timeout_s")
        others = of_mcp if self.mcp is None else ("options",)
        # Not `model_fields_set`: the configuration of a resumed run sets every key.
        unused = [name for name in others if getattr(self, name) != type(self).model_fields[name].default]
        reason = "without mcp" if self.mcp is None else "with mcp"
        return [f".{name}: has no effect {reason}; leave it out" for name in unused]


def _named(tools: dict[str, ToolConfig]) -> dict[str, ToolConfig]:
    """Refuse names that models cannot write."""
    for name in tools:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
            raise PydanticCustomError("tool_name", f"should have names of letters, digits, _ and -, not {name!r}")
    return tools


Tools = Annotated[dict[str, ToolConfig], AfterValidator(_named)]
