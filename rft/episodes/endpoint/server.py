"""Serves the policies of all open episodes on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from rft.episodes.conversation import Conversation
from rft.episodes.endpoint.session import Session
from rft.waiting import wait_for

if TYPE_CHECKING:
    import uvicorn

MAX_ENDED = 1024
"""Episodes that are over and still get status 410; the key of older ones is unknown."""
IDLE_S = 3600
"""An agent may wait so long between two requests on one connection."""
END_S = 15.0
"""Deadline of the end of the server."""


class Endpoint:
    """An address on loopback for each episode. The HTTP server starts with the first request.

    Belongs to the event loop in which it is made.

    Args:
        tokenizer: The policy's.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._sessions: dict[str, Session] = {}
        self._counts: Counter[str] = Counter()
        self._names = count()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=1024)  # requests wait here for the server
        self._listening.setblocking(False)
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._listening, self._begin)

    def _begin(self) -> None:
        self._loop.remove_reader(self._listening)
        self._serving = self._loop.create_task(self._serve(), name="endpoint of the policy")

    async def _serve(self) -> None:
        self._server = await asyncio.to_thread(self._make_server)  # imports for a third of a second
        await self._server.serve(sockets=[self._listening])

    def _make_server(self) -> uvicorn.Server:
        from rft.episodes.endpoint.app import create_app
        from rft.episodes.endpoint.http import make_server

        return make_server(create_app(self._sessions), idle_s=IDLE_S)

    @property
    def port(self) -> int:
        """The port on loopback."""
        port: int = self._listening.getsockname()[1]
        return port

    @contextmanager
    def episode(self, conversation: Conversation, port: int | None = None) -> Iterator[Session]:
        """Yield the session of an episode, which ends with the block.

        Args:
            conversation: The policy's side of the episode.
            port: The port in the address; None takes that of the server.
        """
        name = str(next(self._names))
        port = port or self.port
        session = self._sessions[name] = Session(conversation, f"http://127.0.0.1:{port}/e/{name}", self._tokenizer)
        try:
            yield session
        finally:
            session.end()
            self._counts.update(session.counts)
            for old in [each for each, one in self._sessions.items() if one.has_ended][:-MAX_ENDED]:
                del self._sessions[old]
        if self._serving is not None and self._serving.done():
            self._serving.result()  # raises what ended the server

    def metrics(self) -> dict[str, float]:
        """Return what became of the requests since the last call; empty without requests."""
        counts, self._counts = self._counts, Counter()
        if not counts:
            return {}
        return {
            "endpoint/turns": float(counts["turns"]),
            "endpoint/repeated": float(counts["replayed"] + counts["joined"]),
            "endpoint/refused": float(counts["refused"]),
            "endpoint/ignored_parameters": float(sum(counts[name] for name in counts if name.startswith("ignored "))),
        }

    async def close(self) -> None:
        """End the server."""
        self._loop.remove_reader(self._listening)
        if self._serving is not None:
            if self._server is not None:
                self._server.should_exit = True
            else:
                self._serving.cancel()
            await wait_for(asyncio.wait([self._serving]), what="the endpoint of the policy to end", deadline_s=END_S)
        self._listening.close()
