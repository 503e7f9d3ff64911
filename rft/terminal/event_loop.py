"""Runs coroutines from ordinary functions, even in a notebook, which already has a running event loop."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from types import FrameType
from typing import Any, Generic, TypeVar

from rft.terminal.interrupt import handled_signals, tell_listeners
from rft.waiting import in_thread

T = TypeVar("T")

SIGNAL_POLL_S = 1.0
"""Seconds after which the waiting thread looks for signals. One that arrives just before it blocks does not wake it."""


def run_to_end(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as `asyncio.run` does; inside a running event loop, run it on a loop in another thread.

    The calling thread waits for the result either way. If it is the main thread, signals go to every
    `Interrupt` that listens. If none listens, they cancel the coroutine and then take their usual effect.

    Args:
        main: The coroutine.

    Raises:
        KeyboardInterrupt: Ctrl-C canceled the coroutine.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main)
    return _Background(main).result()


class _Background(Generic[T]):
    """A coroutine on an event loop in a separate thread."""

    def __init__(self, main: Coroutine[Any, Any, T]) -> None:
        self._main = main
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._pending: int | None = None
        """A signal that has not taken effect."""

    def result(self) -> T:
        """Run the coroutine and return its result."""
        try:
            with self._signals_received():
                future = in_thread(lambda: asyncio.run(self._run()), name="event loop")
                while not future.done():
                    wait([future], timeout=SIGNAL_POLL_S)
                return future.result()
        finally:
            if self._pending is not None:
                signal.raise_signal(self._pending)

    async def _run(self) -> T:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if self._pending is not None:
            self._pass_on(signal.Signals(self._pending))
        return await self._main

    @contextmanager
    def _signals_received(self) -> Iterator[None]:
        """Receive signals here: Python lets only the main thread install handlers."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._receive) for number in list(handled_signals())}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self._pending = number
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._pass_on, signal.Signals(number))

    def _pass_on(self, number: signal.Signals) -> None:
        if tell_listeners(number):
            self._pending = None
        elif self._task is not None:
            self._task.cancel()
