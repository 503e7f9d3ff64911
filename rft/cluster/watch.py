"""Ends a run with a message if Ray's head dies; Ray itself would end the process without a message."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rft.cluster.head_check import check_alive
from rft.errors import ClusterError, RftError
from rft.waiting import blocking

SILENCE_S = 20.0
"""Seconds that the head may be silent. After 60 s, Ray ends this process."""
POLL_S = 2.0


@asynccontextmanager
async def watched(address: str) -> AsyncIterator[None]:
    """Check the head repeatedly for the duration of the block.

    Args:
        address: The head's `host:port`.

    Raises:
        ClusterError: The head was silent for `SILENCE_S`.
    """
    task = asyncio.current_task()
    assert task is not None
    lost = False

    async def watch() -> None:
        nonlocal lost
        heard = time.monotonic()
        while time.monotonic() - heard < SILENCE_S:
            await asyncio.sleep(POLL_S)
            try:
                await blocking(lambda: check_alive(address, deadline_s=POLL_S), what="the head", deadline_s=2 * POLL_S)
                heard = time.monotonic()
            except RftError:
                continue
        lost = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if lost and task.uncancel() <= 0:
            raise ClusterError(
                f"the Ray head at {address} has been silent for {SILENCE_S:g} s while the run was under way: it is "
                "dead or cannot be reached; restart the cluster and continue from the last checkpoint with "
                "resume=<run folder>"
            ) from None
        raise
    finally:
        watcher.cancel()
