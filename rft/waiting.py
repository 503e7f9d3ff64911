"""Waits with a name and a deadline. The progress display shows the name of the current wait.

A wait that has used a quarter of its deadline is long: the display and heartbeat.json show it with its deadline. At a
timeout, the observer of the context is called, which writes the stacks of the run's processes.

Functions import asyncio, because the graders' worker processes use this module without an event loop. The import would
take a fifth of their start.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from rft.errors import WaitTimeout

T = TypeVar("T")

LONG_SHARE = 0.25
"""Share of its deadline after which a wait is long."""
LONG_S = 5.0
"""Seconds before which no wait is long."""

Name = str | Callable[[], str]
"""The name of a wait, or a function that returns it if the name changes meanwhile."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait in progress.

    Example:
        Wait("8 completions on sampler 0", since=12.5, deadline_s=300)
    """

    name: Name
    """The name of the wait, such as "8 completions on sampler 0"."""
    since: float
    """`time.monotonic()` at the start of the wait."""
    deadline_s: float | None = None
    """Seconds until the deadline; None if each part of the wait has its own."""

    @property
    def what(self) -> str:
        """The current name of the wait."""
        return self.name if isinstance(self.name, str) else self.name()

    def quarters(self, now: float) -> int:
        """Return the number of quarters of the deadline that a long wait has used; 0 for any other wait.

        Args:
            now: `time.monotonic()`.
        """
        waited_s = now - self.since
        if not self.deadline_s or waited_s < max(LONG_S, LONG_SHARE * self.deadline_s):
            return 0
        return int(waited_s / (LONG_SHARE * self.deadline_s))

    def text(self, now: float) -> str:
        """Return a sentence such as "waiting 75 of 300 s for 1 of 64 completions".

        Args:
            now: `time.monotonic()`.
        """
        waited_s = max(0.0, now - self.since)
        limit = "" if self.deadline_s is None else f"of {self.deadline_s:.0f} "
        return f"waiting {waited_s:.0f} {limit}s for {self.what}"


_waits: list[Wait] = []

Observer = Callable[[Wait], Awaitable[None]]
"""Receives a wait that has timed out."""
_observer: ContextVar[Observer | None] = ContextVar("observer of timeouts", default=None)


def current_wait() -> Wait | None:
    """Return the latest wait in progress, or None."""
    return _waits[-1] if _waits else None


def current_waits() -> tuple[Wait, ...]:
    """Return the waits in progress, the oldest first."""
    return tuple(_waits)


@contextmanager
def waiting(what: Name, *, deadline_s: float | None = None) -> Iterator[Wait]:
    """Register a wait under this name while the enclosed code runs.

    Args:
        what: The name of the wait.
        deadline_s: Seconds until the deadline, which the enclosed code keeps.
    """
    wait = Wait(what, time.monotonic(), deadline_s)
    _waits.append(wait)
    try:
        yield wait
    finally:
        _waits.remove(wait)


@contextmanager
def timeouts_observed(observer: Observer) -> Iterator[None]:
    """Call `observer` at each timeout of `wait_for` in this block, and in tasks that it starts.

    The wait raises its error after the observer has returned. An error of the observer becomes a note of it.
    """
    before = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(before)


async def wait_for(awaitable: Awaitable[T], *, what: Name, deadline_s: float) -> T:
    """Await `awaitable` under a name and a deadline.

    Args:
        awaitable: Cancelled at the deadline.
        what: The name of the wait.
        deadline_s: Seconds until the deadline.

    Raises:
        WaitTimeout: The deadline passed.
    """
    import asyncio

    with waiting(what, deadline_s=deadline_s) as wait:
        try:
            async with asyncio.timeout(deadline_s) as limit:
                return await awaitable
        except TimeoutError:
            if not limit.expired():  # the call raised its own timeout
                raise
            error = WaitTimeout(wait.what, deadline_s)
            if (failure := await _observe(wait)) is not None:
                error.add_note(f"the timeout could not be reported: {type(failure).__name__}: {failure}")
            raise error from None


async def _observe(wait: Wait) -> Exception | None:
    """Call the observer of the context, and return its error. Waits of the observer itself have no observer."""
    if (observer := _observer.get()) is None:
        return None
    before = _observer.set(None)
    try:
        await observer(wait)
    except Exception as error:  # the caller raises the timeout, which matters more
        return error
    finally:
        _observer.reset(before)
    return None


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
    with waiting(what, deadline_s=deadline_s):
        try:
            return future.result(deadline_s)
        except TimeoutError:
            if future.done():  # the call raised its own timeout
                raise
            raise WaitTimeout(what, deadline_s) from None
