"""Handles Ctrl-C: the first finishes and saves the current step, the second stops at once.

If one process has several runs, a signal reaches each run, and their sweep.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
_listening: list[Interrupt] = []


def listen_again() -> None:
    """Reinstall the handlers after a library replaced them; do nothing without listeners.

    Ray's core worker replaces them when a process connects. Its SIGTERM handler prints a C++ stack, calls the previous
    handler, and aborts the process three seconds later.

    Only the main thread can install handlers. On other threads, `tell_listeners` forwards signals.
    """
    if _listening and _on_main_thread():
        for number in EXIT_CODES:
            asyncio.get_running_loop().add_signal_handler(number, tell_listeners, number)


class Interrupt:
    """Listens for SIGINT and SIGTERM during the block; use it within the running event loop.

    Args:
        say: Receives a message about the next action.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._task: asyncio.Task[object] | None = None
        self.exit_code: int | None = None
        """Exit code of a requested stop, or None."""
        self.can_wait = False
        """Whether the run can stop at the end of a step; otherwise the first signal stops at once."""

    def __enter__(self) -> Interrupt:
        self._task = asyncio.current_task()
        _listening.append(self)
        if len(_listening) == 1:
            listen_again()
        return self

    def __exit__(self, *_: object) -> None:
        _listening.remove(self)
        if not _listening and _on_main_thread():
            for number in EXIT_CODES:
                asyncio.get_running_loop().remove_signal_handler(number)

    @property
    def requested(self) -> bool:
        """Whether a stop was requested."""
        return self.exit_code is not None

    def receive(self, number: signal.Signals) -> None:
        """Request a stop at the end of the step, or at once if that is impossible or was requested before."""
        first = not self.requested
        self.exit_code = EXIT_CODES[number]
        if first and self.can_wait:
            self._say("stopping after the current step is finished and saved (press again to stop at once)")
        else:
            self._stop()

    def _stop(self) -> None:
        if self._task is not None:
            self._say("stopping at once")
            self._task.cancel()


class SweepInterrupt(Interrupt):
    """Listens for a whole sweep. Trials also listen and stop themselves. Without trials, the sweep stops at once."""

    def receive(self, number: signal.Signals) -> None:
        """Request a stop: no further trial starts."""
        first = not self.requested
        self.exit_code = EXIT_CODES[number]
        if all(listening is self for listening in _listening):
            self._stop()
        elif first:
            self._say(
                "stopping: running trials finish their step and save, and no further trial starts "
                "(press again to stop at once)"
            )
        else:
            self._say("stopping at once")


def tell_listeners(number: signal.Signals) -> bool:
    """Forward a signal to every listening `Interrupt`; return whether any listens. Call it on their event loop."""
    signal.alarm(0)  # Ray's handler may have set an alarm that aborts the process
    listening = list(_listening)
    for interrupt in listening:
        interrupt.receive(number)
    return bool(listening)


def _on_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
