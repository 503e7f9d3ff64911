"""Carries connections from loopback of a node to the endpoint of the policy, which listens on the driver's loopback.

The entrance is on the node, the exit on the driver's machine. A host carries the frames between them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import cast

Frame = tuple[int, bytes]
"""The number of a connection, and bytes that one side has sent; no bytes at its end."""
LOOPBACK = "127.0.0.1"


class Tunnel:
    """One end of a tunnel, and its connections.

    Args:
        send: Sends a frame to the other end.
    """

    def __init__(self, send: Callable[[Frame], None]) -> None:
        self._send = send
        self._pipes: dict[int, _Pipe] = {}

    def _pipe(self, number: int) -> _Pipe:
        pipe = self._pipes[number] = _Pipe(partial(self._sent, number))
        return pipe

    def _sent(self, number: int, data: bytes) -> None:
        """Pass on what a connection has received; at its end, forget it, unless the other end has told the end."""
        if data or self._pipes.pop(number, None) is not None:
            self._send((number, data))

    def receive(self, frame: Frame) -> None:
        """Take a frame of the other end."""
        number, data = frame
        pipe = self._pipes.get(number)
        if pipe is not None and data:
            pipe.write(data)
        elif pipe is not None:
            del self._pipes[number]
            pipe.close()

    def close(self) -> None:
        """Close all connections."""
        for pipe in self._pipes.values():
            pipe.close()
        self._pipes = {}


class Entrance(Tunnel):
    """The end at which programs connect."""

    _server: asyncio.Server | None = None
    _num_begun = 0

    async def open(self) -> int:
        """Listen on loopback, and return the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accepted, LOOPBACK, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def _accepted(self) -> _Pipe:
        """Return a connection, whose number comes with its first bytes: first frames arrive in the order of numbers."""
        pipe = _Pipe(lambda data: self._begin(pipe, data))
        return pipe

    def _begin(self, pipe: _Pipe, data: bytes) -> None:
        if data:
            number, self._num_begun = self._num_begun, self._num_begun + 1
            self._pipes[number] = pipe
            pipe.sent = partial(self._sent, number)
            pipe.sent(data)

    def close(self) -> None:
        """Listen no more, and close all connections."""
        if self._server is not None:
            self._server.close()
        super().close()


class Exit(Tunnel):
    """The end that connects with a server.

    Args:
        send: Sends a frame to the other end.
        port: Port of the server on loopback.
    """

    def __init__(self, send: Callable[[Frame], None], port: int) -> None:
        super().__init__(send)
        self._port = port
        self._newest = -1
        self._connecting: set[asyncio.Task[None]] = set()

    def receive(self, frame: Frame) -> None:
        """Take a frame of the other end; the first one of a connection makes it."""
        number = frame[0]
        if number > self._newest:  # what follows the end of a connection may still be on its way
            self._newest = number
            task = asyncio.create_task(self._connect(number, self._pipe(number)), name="connection to the endpoint")
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        super().receive(frame)

    async def _connect(self, number: int, pipe: _Pipe) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: pipe, LOOPBACK, self._port)
        except OSError:  # the endpoint has ended, as the program on the node now sees
            self._sent(number, b"")


class _Pipe(asyncio.Protocol):
    """One connection.

    Args:
        sent: Receives what arrives, and no bytes at the end.
    """

    def __init__(self, sent: Callable[[bytes], None]) -> None:
        self.sent = sent
        """Receives what arrives, and no bytes at the end."""
        self._transport: asyncio.Transport | None = None
        self._unsent = b""
        self._is_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)  # those of uvloop, in Ray's actors, are no subclass
        self._transport.write(self._unsent)
        if self._is_closed:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        self.sent(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        self.sent(b"")

    def write(self, data: bytes) -> None:
        """Send bytes, at the latest once connected."""
        if self._transport is None:
            self._unsent += data
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Close the connection once all bytes are sent."""
        self._is_closed = True
        if self._transport is not None:
            self._transport.close()
