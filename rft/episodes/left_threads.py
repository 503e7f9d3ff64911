"""Calls blocking functions in threads, and counts the threads that nobody awaits any more.

A thread cannot be ended. One that hangs after its deadline keeps its place until its process ends.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

_left: list[threading.Event] = []


async def in_thread(function: Callable[..., Any], /, **arguments: Any) -> Any:
    """Call a blocking function in a thread. A cancelled call is left behind until the function returns."""
    begun, ended = threading.Event(), threading.Event()

    def call() -> Any:
        begun.set()
        try:
            return function(**arguments)
        finally:
            ended.set()

    try:
        return await asyncio.to_thread(call)
    except asyncio.CancelledError:
        if begun.is_set() and not ended.is_set():
            _left.append(ended)
        raise


def num_left() -> int:
    """Return the number of threads whose call was cancelled, and which still run."""
    _left[:] = [ended for ended in _left if not ended.is_set()]
    return len(_left)
