"""Every wait has a name and a deadline, and the progress display can ask what the run is waiting for."""

from __future__ import annotations

import asyncio
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


async def together(*awaitables: Awaitable[object]) -> None:
    """Await them side by side. Where one fails, the others are cancelled, and its error is raised."""
    tasks = [asyncio.ensure_future(one) for one in awaitables]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def in_thread(call: Callable[[], T], *, name: str) -> Future[T]:
    """Make a call in a thread of its own, which nobody has to wait for, not even the end of the program.

    `asyncio.to_thread` would not do: at the end of the program its threads are waited for.

    Args:
        call: What is called.
        name: Of the thread.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # whoever gives up leaves the thread as it is

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # it is raised where it is waited for
            future.set_exception(error)

    threading.Thread(target=work, name=f"rft: {name}", daemon=True).start()
    return future


async def blocking(call: Callable[[], T], *, what: str, deadline_s: float) -> T:
    """Await a call that blocks, in a thread that nobody waits for past the deadline.

    Args:
        call: What is called.
        what: What is waited for, in words.
        deadline_s: Seconds.

    Raises:
        WaitTimeout: It did not return in time.
    """
    return await wait_for(asyncio.wrap_future(in_thread(call, name=what)), what=what, deadline_s=deadline_s)


def within(call: Callable[[], T], *, what: str, deadline_s: float) -> T:
    """Make a call that blocks, outside of an event loop, in a thread that nobody waits for past the deadline.

    Args:
        call: What is called.
        what: What is waited for, in words.
        deadline_s: Seconds.

    Raises:
        WaitTimeout: It did not return in time.
    """
    future = in_thread(call, name=what)
    with waiting(what):
        try:
            return future.result(deadline_s)
        except TimeoutError:
            if future.done():  # it failed by itself, with a timeout of its own
                raise
            raise WaitTimeout(what, deadline_s) from None
