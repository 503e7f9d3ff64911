"""The connection to one worker process: its calls, its replies, and the output of its graders."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from rft.grading.processes.ends import End

MESSAGE_BYTES = 65536
MAX_REPLY_BYTES = 1 << 24
LINE_BYTES = 1 << 16


class Worker(asyncio.Protocol):
    """A worker process, which receives and sends lines."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self.misconduct = ""
        """The reason for closing the connection on this side; empty otherwise."""
        self._lines: deque[bytes] = deque()
        self._rest = bytearray()
        self.is_lost = False
        """Whether the connection has ended, and with it the worker."""
        self._news: asyncio.Future[None] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self.output: asyncio.ReadTransport | None = None
        """Receives the graders' output; closes when all processes of the worker have ended."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        self._transport = cast(asyncio.WriteTransport, transport)  # those of uvloop, in Ray's actors, are no subclass

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        self._rest += data
        if b"\n" in data:
            *lines, self._rest = self._rest.split(b"\n")
            self._lines.extend(map(bytes, lines))
        if len(self._rest) > MAX_REPLY_BYTES:
            self.misconduct = f"sent a reply of more than {MAX_REPLY_BYTES >> 20} MiB"
            self.close()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        self.is_lost = True
        self._wake()

    def write(self, data: bytes) -> None:
        """Send lines."""
        assert self._transport is not None
        self._transport.write(data)

    def arrived_line(self) -> bytes | None:
        """Return the next line without its end if it has arrived already, otherwise None."""
        return self._lines.popleft() if self._lines else None

    async def line(self, timeout_s: float) -> bytes | None:
        """Return the next line without its end; None if no line arrives in time.

        Lines that arrive while the event loop is blocked are not late.

        Raises:
            ConnectionError: The worker has ended, and all of its lines are read.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not self._lines and not self.is_lost:  # a long line arrives in several pieces
            self._news = loop.create_future()
            came, _ = await asyncio.wait([self._news], timeout=max(deadline - loop.time(), 0.0))
            if not came:
                break
        if self._lines:
            return self._lines.popleft()
        if self.is_lost:
            raise ConnectionError(f"worker {self.number} has ended")
        return None

    def close(self) -> None:
        """Close the connection; the worker then ends."""
        if self._transport is not None:
            self._transport.abort()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


class Output(asyncio.Protocol):
    """Receives the output of one worker line by line, so that lines of several workers do not mix.

    Args:
        printed: Called with whole lines; with parts of a line longer than `LINE_BYTES`.
    """

    def __init__(self, printed: Callable[[bytes], None]) -> None:
        self._printed = printed
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        lines, end, self._rest = (self._rest + data).rpartition(b"\n")
        if len(self._rest) > LINE_BYTES:
            lines, end, self._rest = lines + end + self._rest, b"", b""
        if lines:
            self._printed(lines + end)

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        self.flush()

    def flush(self) -> None:
        """Pass on an incomplete last line."""
        if self._rest:
            self._printed(self._rest + b"\n")
            self._rest = b""


def drain(output: asyncio.ReadTransport) -> None:
    """Read the remaining lines of an ended worker and close it; a worker that closed its connection has none."""
    if output.is_closing():
        return
    protocol, pipe = output.get_protocol(), output.get_extra_info("pipe")
    assert isinstance(protocol, Output)
    with suppress(BlockingIOError):
        while data := os.read(pipe.fileno(), MESSAGE_BYTES):
            protocol.data_received(data)
    protocol.flush()
    output.close()
