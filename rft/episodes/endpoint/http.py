"""The HTTP server of the endpoint: uvicorn in the event loop of the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

GRACE_S = 1
"""Time for connections after the end of all episodes."""


def make_server(app: Any, *, idle_s: int) -> uvicorn.Server:
    """Return the server of an app, without signal handlers.

    Args:
        app: The ASGI app.
        idle_s: Time that a connection may be idle between two requests.
    """
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_level="critical",
        access_log=False,
        timeout_keep_alive=idle_s,
        timeout_graceful_shutdown=GRACE_S,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the run."""
        yield
