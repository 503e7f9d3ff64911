"""Ctrl-C once: the step under way is finished and saved. Twice: stop at once.

Where several runs go on in one process, a signal reaches each of them, and the sweep that they are of.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
_listening: list[Interrupt] = []


def listen_again() -> None:
    """Install the handlers anew, where a library has put its own in their place; nothing if nobody listens.

    Ray's core worker does so when a process connects. Its handler of SIGTERM prints a C++ stack, calls the handler that
    was there before, and aborts the process three seconds later.

    Only the main thread can install handlers. On other threads, `tell_listeners` passes signals on.
    """
    if _listening and _on_main_thread():
        for number in EXIT_CODES:
            asyncio.get_running_loop().add_signal_handler(number, tell_listeners, number)


class Interrupt:
    """Listens for SIGINT and SIGTERM while the block lasts; to be used inside the running event loop.

    Args:
        say: Called with what is going to happen now.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._task: asyncio.Task[object] | None = None
        self.exit_code: int | None = None
        """None as long as nobody asked to stop."""
        self.can_wait = False
        """Whether stopping at the end of the step is possible; otherwise the first signal stops at once."""

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
        """Whether somebody asked to stop."""
        return self.exit_code is not None

    def receive(self, number: signal.Signals) -> None:
        """Ask to stop: at the end of the step, or at once if that is not possible or was asked for before."""
        first = not self.requested
        self.exit_code = EXIT_CODES[number]
        if first and self.can_wait:
            self._say("stopping: the step under way is finished and saved first (once more to stop at once)")
        else:
            self._stop()

    def _stop(self) -> None:
        if self._task is not None:
            self._say("stopping at once")
            self._task.cancel()


class SweepInterrupt(Interrupt):
    """Listens for a whole sweep. Its trials listen as well, and end themselves; only where none does, it is stopped."""

    def receive(self, number: signal.Signals) -> None:
        """Ask to stop: no more trials begin."""
        first = not self.requested
        self.exit_code = EXIT_CODES[number]
        if all(listening is self for listening in _listening):
            self._stop()
        elif first:
            self._say(
                "stopping: the trials that are running finish their step and save, no more begin "
                "(once more to stop at once)"
            )
        else:
            self._say("stopping at once")


def tell_listeners(number: signal.Signals) -> bool:
    """Pass a signal to every `Interrupt` that listens; return whether there is one. Call it on their event loop."""
    signal.alarm(0)  # where Ray's own handler came first, it has set one that aborts the process
    listening = list(_listening)
    for interrupt in listening:
        interrupt.receive(number)
    return bool(listening)


def _on_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
