"""Calls of Ray that block, with a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from rft.waiting import wait_for

T = TypeVar("T")


async def blocking(call: Callable[[], T], *, what: str, deadline_s: float) -> T:
    """Make a call that blocks, in a thread of its own that nobody waits for past the deadline.

    `asyncio.to_thread` would not do: at the end of the program its threads are waited for.

    Args:
        call: What is called.
        what: What is waited for, in words.
        deadline_s: Seconds.

    Raises:
        WaitTimeout: It did not return in time.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, failure: BaseException | None) -> None:
        if done.done():  # given up
            return
        if failure is not None:
            done.set_exception(failure)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, failure = None, None
        try:
            result = call()
        except BaseException as error:  # it is raised where it is awaited
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants it any more
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=work, name=f"rft: {what}", daemon=True).start()
    return await wait_for(done, what=what, deadline_s=deadline_s)
