"""Sessions with MCP servers: calls, faults, and ends; with servers in this process and one command."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

pytest.importorskip("mcp")

from mcp import MCPError
from mcp.server.mcpserver import MCPServer

from rft.episodes.tools import mcp_launch
from rft.episodes.tools.mcp_session import McpAddress, McpError, McpSession, open_session

SERVER = """
import json, os, sys

TOOLS = [{"name": name, "inputSchema": {"type": "object"}} for name in ("environment", "process", "vanish")]

def answer(method, params):
    if method == "initialize":
        return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": {
            "name": "by hand", "version": "1"}}
    if method == "tools/list":
        return {"tools": TOOLS}
    if method == "tools/call":
        if params["name"] == "vanish":
            os._exit(3)
        text = " ".join(os.environ) if params["name"] == "environment" else str(os.getpid())
        return {"content": [{"type": "text", "text": text}]}

for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        result = answer(message["method"], message.get("params"))
        outcome = {"result": result} if result else {"error": {"code": -32601, "message": "unknown method"}}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **outcome}), flush=True)
"""
"""A server of the standard library's making; one of the `mcp` library takes seconds to start."""


def a_server() -> MCPServer:
    server = MCPServer("sums")
    server.closed, server.released = [], asyncio.Event()  # type: ignore[attr-defined]

    @server.tool()
    async def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @server.tool()
    async def wait() -> str:
        """Wait for release."""
        try:
            await server.released.wait()  # type: ignore[attr-defined]
        except asyncio.CancelledError:
            server.closed.append("cancelled")  # type: ignore[attr-defined]
            raise
        return "done"

    @server.tool()
    async def release() -> str:
        """End the waiting."""
        server.released.set()  # type: ignore[attr-defined]
        return ""

    return server


@asynccontextmanager
async def opened(server: Any, timeout_s: float = 60.0) -> AsyncIterator[McpSession]:
    with open(os.devnull, "w") as log:
        async with open_session(server, timeout_s=timeout_s, start_timeout_s=60.0, log=log) as session:
            yield session


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run, and leave no task behind."""

    async def checked() -> None:
        await main
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(checked())


def text(result: Any) -> str:
    return str(result.content[0].text)


def test_calls_of_several_tasks_at_the_same_time() -> None:
    async def main() -> None:
        async with opened(a_server()) as session:
            assert [tool.name for tool in session.tools] == ["add", "wait", "release"]
            waiting = asyncio.create_task(session.call("wait", {}))  # type: ignore[arg-type]
            assert text(await session.call("add", {"a": 1, "b": 2})) == "3"
            assert not waiting.done()
            await session.call("release", {})
            assert text(await waiting) == "done"

    run(main())


def test_a_session_that_other_tasks_opened_and_close() -> None:
    """modelcontextprotocol/python-sdk#577: a cancel scope must be left in the task that entered it."""

    async def main() -> None:
        manager = opened(a_server())
        session = await asyncio.create_task(manager.__aenter__())  # type: ignore[arg-type]
        assert text(await asyncio.create_task(session.call("add", {"a": 1, "b": 2}))) == "3"  # type: ignore[arg-type]
        await asyncio.create_task(manager.__aexit__(None, None, None))  # type: ignore[arg-type]
        with pytest.raises(McpError, match="the session has ended"):
            await session.call("add", {"a": 1, "b": 2})

    run(main())


def test_a_cancelled_call_is_cancelled_on_the_server() -> None:
    async def main() -> None:
        server = a_server()
        async with opened(server) as session:
            call = asyncio.create_task(session.call("wait", {}))  # type: ignore[arg-type]
            await asyncio.sleep(0.1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert text(await session.call("add", {"a": 2, "b": 2})) == "4"
        assert server.closed == ["cancelled"]  # type: ignore[attr-defined]

    run(main())


def test_the_wrong_call_is_told_and_a_slow_one_fails() -> None:
    async def main() -> None:
        async with opened(a_server(), timeout_s=60) as session:
            assert (await session.call("add", {"a": "one"})).is_error
        async with opened(a_server(), timeout_s=0.3) as session:
            with pytest.raises(MCPError, match="Timed out"):
                await session.call("wait", {})

    run(main())


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (McpAddress(url="http://127.0.0.1:9/mcp"), "ConnectError"),
        (McpAddress(command=(sys.executable, "-c", "pass")), "Connection closed"),
        (McpAddress(command=("no-such-program-at-all",)), "Connection closed"),
    ],
)
def test_a_server_that_is_down(address: McpAddress, reason: str) -> None:
    async def main() -> None:
        with pytest.raises(McpError, match=reason):
            async with opened(address):
                pass

    run(main())


def test_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sees only named variables, ends with its session, and a call after its end fails instead of hanging."""
    (tmp_path / "server.py").write_text(SERVER)
    monkeypatch.setenv("MY_KEY", "secret")
    address = McpAddress(command=(sys.executable, str(tmp_path / "server.py")), variables={"NAMED": "1"})

    async def main() -> None:
        async with opened(address) as session:
            names = text(await session.call("environment", {}))
            assert "NAMED" in names and "MY_KEY" not in names
            process = int(text(await session.call("process", {})))
            assert is_alive(process)
        assert not is_alive(process)
        async with opened(address) as session:
            with pytest.raises(MCPError, match="Connection closed"):
                await session.call("vanish", {})

    run(main())


def test_streamable_http() -> None:
    """A server behind a URL gets the headers with every request."""
    seen: list[str] = []
    app = a_server().streamable_http_app()

    async def noted(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            seen.append(dict(scope["headers"]).get(b"authorization", b"").decode())
        await app(scope, receive, send)

    async def main() -> None:
        server = uvicorn.Server(uvicorn.Config(noted, port=0, log_level="error"))
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        address = McpAddress(url=f"http://127.0.0.1:{port}/mcp", headers={"Authorization": "Bearer key"})
        async with opened(address) as session:
            assert text(await session.call("add", {"a": 1, "b": 2})) == "3"
        server.should_exit = True
        await serving
        assert "key" not in repr(address)

    asyncio.run(main())
    assert set(seen) == {"Bearer key"}


def test_a_server_ends_with_a_killed_parent() -> None:
    """No orphan stays when the process of an environment is killed, which closes nothing."""
    launch = str(Path(mcp_launch.__file__))
    start = (
        "import os, subprocess, sys; "
        f"child = subprocess.Popen([sys.executable, '-I', '-S', {launch!r}, str(os.getpid()), 'sleep', '600']); "
        "print(child.pid, flush=True); child.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", start], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_alive(child)
        parent.kill()
    for _ in range(600):
        if not is_alive(child):
            return
        time.sleep(0.1)
    pytest.fail("the server is an orphan")


def is_alive(process: int) -> bool:
    """Whether a process runs; one that nobody has collected yet does not."""
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
