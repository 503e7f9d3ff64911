"""Every wait has a name and a deadline, and the progress display can ask what the run is waiting for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from rft.errors import WaitTimeout

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wait:
    """One thing being waited for."""

    what: str
    """In words, as "8 completions on sampler 0"."""
    since: float
    """`time.monotonic()` when the wait began."""


_waits: list[Wait] = []


def current_wait() -> Wait | None:
    """The wait that began last among those still going on, or None."""
    return _waits[-1] if _waits else None


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Name what the enclosed code waits for."""
    wait = Wait(what, time.monotonic())
    _waits.append(wait)
    try:
        yield
    finally:
        _waits.remove(wait)


async def wait_for(awaitable: Awaitable[T], *, what: str, deadline_s: float) -> T:
    """Await something under a name and a deadline.

    Args:
        awaitable: What is awaited; it is cancelled at the deadline.
        what: What is waited for, in words.
        deadline_s: Seconds.

    Raises:
        WaitTimeout: It did not come in time.
    """
    with waiting(what):
        try:
            async with asyncio.timeout(deadline_s) as limit:
                return await awaitable
        except TimeoutError:
            if not limit.expired():  # it failed by itself, with a timeout of its own
                raise
            raise WaitTimeout(what, deadline_s) from None
