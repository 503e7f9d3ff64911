"""One session with an MCP server (https://modelcontextprotocol.io), owned by one task.

The client's scopes must be left in the task that entered them
(https://github.com/modelcontextprotocol/python-sdk/issues/577). A task therefore opens the client, makes the calls that
others hand it, and closes the client.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import urlsplit

from rft.waiting import wait_for, waiting

if TYPE_CHECKING:
    from mcp_types import CallToolResult, Tool

END_S = 15.0
"""Deadline of the end of a session. A server that runs on is killed after 4 s."""
MAX_PAGES = 100
"""Pages of a server's list of tools."""


class McpError(Exception):
    """The server, or the connection to it, has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class McpAddress:
    """The place of a server.

    Example:
        McpAddress(url="https://example.org/mcp")
    """

    url: str = ""
    """Its URL (streamable HTTP); empty for a command."""
    command: tuple[str, ...] = ()
    """The words of the command that runs it, and that speaks on stdin and stdout."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Further environment variables of the command."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Headers of every request to the URL."""

    def __str__(self) -> str:
        """Return the address without what may be a secret in a URL."""
        parts = urlsplit(self.url)
        place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        return place if self.url else " ".join(self.command)

    @asynccontextmanager
    async def transport(self, log: TextIO) -> AsyncIterator[Any]:
        """Connect to the URL, or start the command.

        Args:
            log: A real file for the command's stderr.
        """
        import httpx2
        from mcp import StdioServerParameters
        from mcp.client.stdio import stdio_client
        from mcp.client.streamable_http import streamable_http_client

        async with AsyncExitStack() as stack:
            if self.url:
                client = await stack.enter_async_context(httpx2.AsyncClient(headers=dict(self.headers), timeout=60.0))
                yield await stack.enter_async_context(streamable_http_client(self.url, http_client=client))
                return
            launch = ("-I", "-S", str(Path(__file__).with_name("mcp_launch.py")), str(os.getpid()))
            server = StdioServerParameters(
                command=sys.executable, args=[*launch, *self.command], env=dict(self.variables)
            )
            yield await stack.enter_async_context(stdio_client(server, errlog=log))


@dataclass(slots=True)
class _Order:
    """A call that another task wants."""

    name: str
    arguments: Mapping[str, Any]
    result: asyncio.Future[CallToolResult]


class McpSession:
    """A session with a server, which `open_session` opens and closes.

    Args:
        server: An address, or a server of the `mcp` library in this process.
        timeout_s: Seconds for each request.
        log: A real file for the stderr of a command.
    """

    def __init__(self, server: Any, *, timeout_s: float, log: TextIO) -> None:
        self.tools: Sequence[Tool] = ()
        """The server's tools, once the session is open."""
        self.is_broken = False
        """Whether a request has failed for a reason that is not the model's."""
        self._server = server
        self._timeout_s = timeout_s
        self._log = log
        self._orders: asyncio.Queue[_Order | None] = asyncio.Queue()
        self._is_open = asyncio.get_running_loop().create_future()
        self._owner = asyncio.create_task(self._own())

    async def _own(self) -> None:
        """Open the client, make calls until the end, and close the client: the only task that knows the client."""
        from mcp import Client

        try:
            server = self._server.transport(self._log) if isinstance(self._server, McpAddress) else self._server
            # Without a cache: a list of tools that is older than the session must not hide a change.
            client = Client(server, read_timeout_seconds=self._timeout_s, cache=None)
            async with client, asyncio.TaskGroup() as calls:
                self.tools = await _listed(client)
                if not self._is_open.done():
                    self._is_open.set_result(None)
                while (order := await self._orders.get()) is not None:
                    call = calls.create_task(self._make(client, order))
                    order.result.add_done_callback(partial(_cancel, call))
        except Exception as error:
            if not self._is_open.done():
                self._is_open.set_exception(McpError(reason_of(error)))
        finally:
            self.is_broken = True
            while not self._orders.empty():
                if (order := self._orders.get_nowait()) is not None and not order.result.done():
                    order.result.set_exception(McpError("the session has ended"))

    async def _make(self, client: Any, order: _Order) -> None:
        try:
            result = await client.call_tool(order.name, dict(order.arguments))
        except asyncio.CancelledError:
            if not order.result.done():
                order.result.set_exception(McpError("the session has ended"))
            raise
        except Exception as error:
            if not order.result.done():
                order.result.set_exception(error)
        else:
            if not order.result.done():
                order.result.set_result(result)

    async def opened(self, deadline_s: float) -> None:
        """Wait until the server has listed its tools.

        Raises:
            McpError: It cannot be reached, or it has failed.
            WaitTimeout: It did not answer in time.
        """
        await wait_for(self._is_open, what=f"the MCP server {self._server} to start", deadline_s=deadline_s)

    async def call(self, name: str, arguments: Mapping[str, Any]) -> CallToolResult:
        """Call a tool; several calls may be under way.

        Raises:
            McpError: The session has ended.
            mcp.MCPError: The server refused the request, or did not answer in time.
        """
        if self._owner.done():
            raise McpError("the session has ended")
        order = _Order(name, arguments, asyncio.get_running_loop().create_future())
        self._orders.put_nowait(order)
        with waiting(f"the MCP tool {name}", deadline_s=self._timeout_s):
            return await order.result

    async def close(self) -> None:
        """End the session, and wait for the end of a command."""
        self._orders.put_nowait(None)
        if not self._is_open.done():
            self._owner.cancel()
        try:
            with waiting("a session with an MCP server to end", deadline_s=END_S):
                async with asyncio.timeout(END_S):
                    await asyncio.wait([self._owner])
        except TimeoutError:
            self._owner.cancel()


@asynccontextmanager
async def open_session(
    server: Any, *, timeout_s: float, start_timeout_s: float, log: TextIO
) -> AsyncIterator[McpSession]:
    """Open a session, and close it in the end, whatever happens in between.

    Args:
        server: An address, or a server of the `mcp` library in this process.
        timeout_s: Seconds for each request.
        start_timeout_s: Seconds for the start of the server.
        log: A real file for the stderr of a command.

    Raises:
        McpError: The server cannot be reached, or it has failed.
        WaitTimeout: It did not answer in time.
    """
    session = McpSession(server, timeout_s=timeout_s, log=log)
    try:
        await session.opened(start_timeout_s)
        yield session
    finally:
        await asyncio.shield(session.close())


def _cancel(call: asyncio.Task[None], _: object) -> None:
    """Cancel a call whose result nobody waits for any more; nothing happens to one that has ended."""
    call.cancel()


async def _listed(client: Any) -> Sequence[Tool]:
    tools: list[Tool] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        if (cursor := page.next_cursor) is None:
            return tools
    raise McpError(f"its list of tools has more than {MAX_PAGES} pages")


def reason_of(error: BaseException) -> str:
    """Return the innermost error of a group as a sentence."""
    return "; ".join(dict.fromkeys(f"{type(each).__name__}: {each}" for each in _leaves(error)))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
