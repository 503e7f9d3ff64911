"""The tools of an MCP server as a source of tools.

The server is asked for its tools before the first step. Every session must offer the same: a server that changes what
stands in the prompt is a fault, and not another environment. Sampling and elicitation, by which a server could ask the
model or the user, stay declined.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rft.config.tools import ToolConfig
from rft.episodes.tools.mcp_session import END_S, McpAddress, McpError, McpSession, open_session, reason_of
from rft.episodes.tools.pins import changes, pins_of
from rft.episodes.tools.schemas import schema_problem
from rft.episodes.tools.tool import OpenTools, Tool, ToolError
from rft.errors import WaitTimeout
from rft.imports import missing_packages
from rft.types import Task
from rft.waiting import within

if TYPE_CHECKING:
    from mcp_types import Tool as ServerTool

MAX_CHARACTERS = 1 << 20
"""Longest result that is kept; `max_result_tokens` shortens what the model is told."""
STDERR_CHARACTERS = 300
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
INVALID_PARAMS = -32602
"""JSON-RPC's code for arguments that a server does not accept."""


def address_of(entry: ToolConfig) -> McpAddress:
    """Return the address of an entry's server.

    Raises:
        ValueError: All problems: the address is neither a URL nor a command that exists, or a variable is not set.
    """
    server, problems = entry.mcp or "", []
    if missing := [
        name for name in [*entry.env, *([entry.bearer_env] if entry.bearer_env else [])] if name not in os.environ
    ]:
        problems.append(f"the environment variable {', '.join(missing)} is not set")
    if server.startswith(("http://", "https://")):
        if not urlsplit(server).hostname:
            problems.append(f"mcp={server}: the URL has no host")
        if entry.env:
            problems.append("env: only a command has environment variables; for a URL, name its token in bearer_env")
        headers = {"Authorization": f"Bearer {os.environ.get(entry.bearer_env, '')}"} if entry.bearer_env else {}
        address = McpAddress(url=server, headers=headers)
    else:
        words = _words(server, problems)
        if entry.bearer_env:
            problems.append("bearer_env: only a URL takes a token; for a command, name its variables in env")
        address = McpAddress(command=words, variables={name: os.environ.get(name, "") for name in entry.env})
    if problems:
        raise ValueError("; ".join(problems))
    return address


def _words(command: str, problems: list[str]) -> tuple[str, ...]:
    """Return the words of a command, with the program's full path."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        problems.append(f"mcp={command}: is neither a URL nor a command: {error}")
        return ()
    if not words:
        problems.append("mcp is empty; give a URL with http:// or https://, or a command")
        return ()
    if (program := shutil.which(words[0])) is None:
        problems.append(
            f"mcp={command}: there is no program {words[0]}; give a URL with http:// or https://, or a command"
        )
        return ()
    return (program, *words[1:])


def offered(tools: Sequence[ServerTool], allow: Sequence[str] | None) -> list[dict[str, Any]]:
    """Return the declarations of a server's tools as OpenAI function schemas.

    Args:
        tools: All tools of the server.
        allow: The tools that the policy may use; None allows all.

    Raises:
        ValueError: `allow` names a tool that the server does not have, or a name cannot stand in a call.
    """
    names = [tool.name for tool in tools]
    if missing := [name for name in allow or () if name not in names]:
        raise ValueError(f"allow: the server has no tool {', '.join(missing)}; it has {', '.join(names) or 'none'}")
    chosen = [tool for tool in tools if allow is None or tool.name in allow]
    if not chosen:
        raise ValueError("the server has no tools")
    if unusable := [tool.name for tool in chosen if not _NAME.fullmatch(tool.name)]:
        raise ValueError(
            f"the names {', '.join(map(repr, unusable))} have characters other than letters, digits, '_' and '-'; "
            "leave them out with allow"
        )
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description or "", "parameters": tool.input_schema},
        }
        for tool in chosen
    ]


def require_schemas(declared: Sequence[Mapping[str, Any]]) -> None:
    """Refuse tools whose arguments could not be checked.

    Raises:
        ValueError: With the names of all of them.
    """
    functions = [tool["function"] for tool in declared]
    broken = {each["name"]: problem for each in functions if (problem := schema_problem(each["parameters"]))}
    if broken:
        described = "; ".join(f"{name}: {problem}" for name, problem in broken.items())
        raise ValueError(f"schemas of the server's tools are broken ({described}); leave these tools out with allow")


class McpSource:
    """The tools of an MCP server: one session for each episode, or with `shared` one for each process.

    Args:
        name: Name of the entry.
        entry: The entry.
        server: A server of the `mcp` library in this process, in place of the entry's.
        declared: What the server offered at the start of the run, in OpenAI's format; None asks it.

    Raises:
        ValueError: The address has problems, or the package `mcp` is missing.
    """

    has_score = speaks = False
    file = ""

    def __init__(
        self,
        name: str,
        entry: ToolConfig,
        server: Any = None,
        declared: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        if problem := missing_packages(f"tools.{name}.mcp", "mcp"):
            raise ValueError(problem)
        self.name, self.sha256 = name, ""
        self._entry = entry
        self._server = address_of(entry) if server is None else server
        self._declared = declared
        self._shared: McpSession | None = None
        self._opening: asyncio.Lock | None = None
        self._forever = AsyncExitStack()

    async def _ask(self) -> list[dict[str, Any]]:
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
            try:
                async with self._session(log) as session:
                    tools = session.tools
            except (McpError, WaitTimeout, OSError) as error:
                raise ValueError(self._down(str(error), log)) from error
        return offered(tools, self._entry.allow)

    def _down(self, reason: str, log: IO[str] | None = None) -> str:
        """Return what to do about a server that does not answer, with the end of its stderr."""
        said = ""
        if log is not None:
            log.seek(0)
            last = log.read()[-STDERR_CHARACTERS:].strip()
            said = f"; it printed: {last}" if last else ""
        return (
            f"the MCP server {self._server} does not answer: {reason}{said}; start it, or correct tools.{self.name}.mcp"
        )

    def declarations(self) -> Sequence[Mapping[str, Any]]:
        """Return the tools of the server in OpenAI's format; the first call asks for them.

        Raises:
            ValueError: It does not answer, or lacks an allowed tool, or the schema of a tool is broken.
        """
        if self._declared is None:
            deadline_s = self._entry.start_timeout_s + END_S
            what = f"the tools of the MCP server {self._server}"
            try:
                self._declared = within(lambda: asyncio.run(self._ask()), what=what, deadline_s=deadline_s)
            except WaitTimeout as error:
                raise ValueError(self._down(str(error))) from error
            require_schemas(self._declared)
        self.sha256 = hashlib.sha256(json.dumps(pins_of(self._declared), sort_keys=True).encode()).hexdigest()
        return self._declared

    def _session(self, log: Any) -> AbstractAsyncContextManager[McpSession]:
        entry = self._entry
        return open_session(self._server, timeout_s=entry.timeout_s, start_timeout_s=entry.start_timeout_s, log=log)

    @asynccontextmanager
    async def open(self, task: Task, seed: int) -> AsyncIterator[OpenTools]:
        """Open a session for an episode, or use the one of this process.

        Raises:
            McpError: The server does not answer, or its tools have changed.
        """
        async with AsyncExitStack() as stack:
            if self._entry.shared:
                session = await self._shared_session()
            else:
                session = await stack.enter_async_context(self._session(sys.stderr))
                self._require_same(session)
            yield OpenTools(tools=[self._tool(each["function"], session) for each in self.declarations()])

    async def _shared_session(self) -> McpSession:
        """Return the session of this process; open another one after a failure."""
        self._opening = self._opening or asyncio.Lock()
        async with self._opening:
            if (session := self._shared) is None or session.is_broken:
                await self._forever.aclose()
                session = self._shared = await self._forever.enter_async_context(self._session(sys.stderr))
                self._require_same(session)
            return session

    async def close(self) -> None:
        """End the session of this process."""
        await self._forever.aclose()

    def _require_same(self, session: McpSession) -> None:
        try:
            now = offered(session.tools, self._entry.allow)
        except ValueError as error:
            raise McpError(f"the MCP server has changed since the start of the run: {error}") from error
        if changed := changes(pins_of(self.declarations()), pins_of(now)):
            raise McpError(f"the MCP server has changed since the start of the run: {', '.join(changed)}")

    def _tool(self, function: Mapping[str, Any], session: McpSession) -> Tool:
        async def call(arguments: Mapping[str, Any]) -> str:
            return await _called(session, function["name"], arguments)

        return Tool(**function, call=call, timeout_s=self._entry.timeout_s)


async def _called(session: McpSession, name: str, arguments: Mapping[str, Any]) -> str:
    """Call a tool, and return its text.

    Raises:
        McpError: The server or the connection has failed.
        ToolError: The tool reports an error, or the server does not accept the arguments.
    """
    from mcp import MCPError

    try:
        result = await session.call(name, arguments)
    except MCPError as error:
        if error.code == INVALID_PARAMS:
            raise ToolError(error.message) from error
        session.is_broken = True
        raise McpError(reason_of(error)) from error
    except Exception:
        session.is_broken = True  # what the server has done is unknown, so no later call uses this session
        raise
    said = text_of(result.content)
    if result.is_error:
        raise ToolError(said or "the tool failed")
    return said


def text_of(content: Sequence[Any]) -> str:
    """Return the texts of a result, each on its own lines; anything else is named and left out."""
    parts = [block.text if block.type == "text" else f"[{block.type} left out]" for block in content]
    said = "\n".join(parts)
    return said if len(said) <= MAX_CHARACTERS else f"{said[:MAX_CHARACTERS]}\n[cut at {MAX_CHARACTERS} characters]"
