"""Waits with a name and a deadline. The progress display shows the name of the current wait.

Functions import asyncio, because the graders' worker processes use this module without an event loop. The import would
take a fifth of their start.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from rft.errors import WaitTimeout

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait in progress."""

    what: str
    """The name of the wait, such as "8 completions on sampler 0"."""
    since: float
    """`time.monotonic()` at the start of the wait."""


_waits: list[Wait] = []


def current_wait() -> Wait | None:
    """Return the latest wait in progress, or None."""
    return _waits[-1] if _waits else None


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Register a wait under this name while the enclosed code runs."""
    wait = Wait(what, time.monotonic())
    _waits.append(wait)
    try:
        yield
    finally:
        _waits.remove(wait)


async def wait_for(awaitable: Awaitable[T], *, what: str, deadline_s: float) -> T:
    """Await `awaitable` under a name and a deadline.

    Args:
        awaitable: Cancelled at the deadline.
        what: The name of the wait.
        deadline_s: Seconds until the deadline.

    Raises:
        WaitTimeout: The deadline passed.
    """
    import asyncio

    with waiting(what):
        try:
            async with asyncio.timeout(deadline_s) as limit:
                return await awaitable
        except TimeoutError:
            if not limit.expired():  # the call raised its own timeout
                raise
            raise WaitTimeout(what, deadline_s) from None


async def together(*awaitables: Awaitable[object]) -> None:
    """Await all at the same time. If one fails, cancel the others and raise its error."""
    import asyncio

    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def in_thread(call: Callable[[], T], *, name: str) -> Future[T]:
    """Run `call` in a daemon thread, which may outlive its waiter and does not delay the end of the program.

    `asyncio.to_thread` does not suit, because the program waits for its threads at the end.

    Args:
        call: The function to run.
        name: Name of the thread.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # a cancelled wait does not cancel the thread

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # raised again by the waiter
            future.set_exception(error)

    threading.Thread(target=work, name=f"rft: {name}", daemon=True).start()
    return future


async def blocking(call: Callable[[], T], *, what: str, deadline_s: float) -> T:
    """Await a blocking call, which runs in a daemon thread.

    Args:
        call: The function to run.
        what: The name of the wait.
        deadline_s: Seconds until the deadline.

    Raises:
        WaitTimeout: The call did not return before the deadline.
    """
    import asyncio

    return await wait_for(asyncio.wrap_future(in_thread(call, name=what)), what=what, deadline_s=deadline_s)


def within(call: Callable[[], T], *, what: str, deadline_s: float) -> T:
    """Run a blocking call in a daemon thread, outside an event loop, and wait for it.

    Args:
        call: The function to run.
        what: The name of the wait.
        deadline_s: Seconds until the deadline.

    Raises:
        WaitTimeout: The call did not return before the deadline.
    """
    future = in_thread(call, name=what)
    with waiting(what):
        try:
            return future.result(deadline_s)
        except TimeoutError:
            if future.done():  # the call raised its own timeout
                raise
            raise WaitTimeout(what, deadline_s) from None
