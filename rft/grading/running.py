"""Calling one grader, with a deadline: sync graders in threads, async ones on the loop."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from rft.errors import WaitTimeout
from rft.grading.contract import LoadedGrader

log = logging.getLogger(__name__)


class Runner:
    """Calls graders. A call that misses its deadline is abandoned, whatever it is stuck in.

    Each sync call has a thread of its own, a daemon: the workers of a pool could all get stuck in graders that never
    end, and would keep the process from ending.
    """

    def __init__(self) -> None:
        self._threads: set[threading.Thread] = set()

    async def run(self, grader: LoadedGrader, arguments: Mapping[str, Any]) -> Any:
        """Call a grader and return its result.

        Raises:
            WaitTimeout: It did not finish within its `timeout_s`.
            Exception: Whatever the grader raised.
        """
        work = asyncio.ensure_future(self._call(grader, arguments))
        work.add_done_callback(lambda done: done.cancelled() or done.exception())  # abandoned, it may fail unseen
        try:
            await asyncio.wait({work}, timeout=grader.timeout_s)
            if not work.done():
                raise WaitTimeout(f"grader '{grader.name}'", grader.timeout_s)
        finally:
            work.cancel()
        if work.cancelled():
            raise RuntimeError("the grader cancelled itself")
        return work.result()

    def close(self) -> None:
        """Give up the threads that are still stuck in a grader, and name them in the log."""
        for thread in list(self._threads):
            log.warning("%s is still running, long after its deadline", thread.name)

    async def _call(self, grader: LoadedGrader, arguments: Mapping[str, Any]) -> Any:
        try:
            if inspect.iscoroutinefunction(grader.call):
                return await grader.call(**arguments)
            result = await self._in_thread(partial(grader.call, **arguments), f"grader '{grader.name}'")
            return await result if inspect.isawaitable(result) else result
        except SystemExit as error:  # it would end the event loop, and with it the run
            raise RuntimeError(f"the grader called sys.exit({error.code!r})").with_traceback(
                error.__traceback__
            ) from None

    async def _in_thread(self, call: Callable[[], Any], name: str) -> Any:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            if not outcome.done():
                outcome.set_result((result, error))

        def work() -> None:
            result, error = None, None
            try:
                result = call()
            except BaseException as raised:  # carried over to the loop, which judges it
                error = raised
            self._threads.discard(threading.current_thread())
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, result, error)

        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.add(thread)
        thread.start()
        result, error = await outcome
        if error is not None:
            raise error
        return result
