"""The HTTP server of the grader service: uvicorn, with deadlines for connections and for its own end."""

from __future__ import annotations

import asyncio
import os
import threading
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0
"""Deadline for the head of a request, from the connection or from the previous reply."""
REPLY_S = 30.0
"""Time for a client to receive a reply, beyond the deadlines of its body and of the grading."""
GRACE_S = 5.0
"""Time for running requests after SIGTERM or SIGINT."""
END_S = 15.0
"""The process ends this long after the signal, even if a grader blocks the event loop."""
MAX_CONNECTIONS = 256
"""Further connections get status 503."""


def make_server(app: Any, *, request_s: float) -> uvicorn.Server:
    """Return the server of an app.

    Args:
        app: The ASGI app.
        request_s: Deadline of a request, from its head to the start of its reply.
    """

    class Protocol(_ImpatientProtocol):
        request_limit_s = request_s + REPLY_S

    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        log_level="warning",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=int(GRACE_S),
    )
    return _Server(config)


class _ImpatientProtocol(H11Protocol):
    """Aborts a connection that sends no request, half a request, or does not receive its reply.

    uvicorn itself has a deadline only for idle connections between two requests.
    """

    request_limit_s: float
    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Part of asyncio.Protocol."""
        super().connection_made(transport)
        self._allow(HEAD_S)

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:  # the head of a request is complete
            self._allow(self.request_limit_s)

    def on_response_complete(self) -> None:
        """Part of uvicorn's protocol: a reply has been written."""
        before = self.cycle
        super().on_response_complete()
        self._allow(HEAD_S if self.cycle is before else self.request_limit_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        super().connection_lost(exc)
        if self._limit is not None:
            self._limit.cancel()

    def _allow(self, seconds: float) -> None:
        """Abort the connection after this time, unless it is called again."""
        if self._limit is not None:
            self._limit.cancel()
        self._limit = self.loop.call_later(seconds, self.transport.abort)


class _Server(uvicorn.Server):
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the end at a signal, and make sure that it comes."""
        if not self.should_exit:
            end = threading.Timer(END_S, os._exit, [128 + sig])
            end.daemon = True
            end.start()
        super().handle_exit(sig, frame)
