"""Imports a user's file, which may hang, end the process, or start threads.

rft imports such a file in its own process, so each of these would end the run or keep the process from ending.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from rft.waiting import waiting

log = logging.getLogger(__name__)

IMPORT_S = 240.0
"""Deadline of an import. Large libraries on a slow disk take minutes."""
REMINDER_S = 10.0
"""Interval between messages about a slow import."""


class ImportEnded(BaseException):
    """An import was stopped. Not an `Exception`, so the file cannot catch it by accident."""


class ImportWatch:
    """The state of an import.

    Args:
        file: The imported file.
    """

    def __init__(self, file: Path) -> None:
        self.interrupted = False
        """Whether the user pressed Ctrl-C. A file can raise `KeyboardInterrupt` as well."""
        self._file = file
        self._started = time.monotonic()
        self._process = os.getpid()
        self._thread = threading.current_thread()
        self._exit = os._exit
        self._start_thread = threading.Thread.start
        self._on_interrupt: Any = None

    def guard(self, stack: ExitStack) -> None:
        """Install the guards until the stack is closed.

        Only the main thread receives signals, so imports in other threads have no deadline.
        """
        os._exit = self._refuse_exit  # type: ignore[assignment]
        stack.callback(setattr, os, "_exit", self._exit)
        watch = self

        def start(thread: threading.Thread) -> None:
            watch._as_daemon(thread)

        threading.Thread.start = start  # type: ignore[method-assign, assignment]
        stack.callback(setattr, threading.Thread, "start", self._start_thread)
        if self._thread is not threading.main_thread():
            return
        self._on_interrupt = signal.getsignal(signal.SIGINT)
        if callable(self._on_interrupt):
            stack.callback(signal.signal, signal.SIGINT, self._on_interrupt)
            signal.signal(signal.SIGINT, self._interrupt)
        stack.callback(signal.signal, signal.SIGALRM, signal.getsignal(signal.SIGALRM))
        signal.signal(signal.SIGALRM, self._alarm)
        every_s = min(REMINDER_S, IMPORT_S)
        left_s, _ = signal.setitimer(signal.ITIMER_REAL, every_s, every_s)
        stack.callback(self._restore_timer, left_s)

    def _as_daemon(self, thread: threading.Thread) -> None:
        """Start a thread; a thread of the file must not keep the process from ending."""
        if threading.current_thread() is self._thread:
            thread.daemon = True
        self._start_thread(thread)

    def _refuse_exit(self, code: int) -> NoReturn:
        if os.getpid() == self._process:
            raise ImportEnded(f"it called os._exit({code!r}), which would end rft")
        self._exit(code)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True
        self._on_interrupt(number, frame)

    def _alarm(self, number: int, frame: FrameType | None) -> None:
        seconds = time.monotonic() - self._started
        if seconds >= IMPORT_S:
            raise ImportEnded(f"it did not end within {IMPORT_S:g} s")
        log.warning("importing %s: %.0f s so far; it is stopped after %g s", self._file, seconds, IMPORT_S)

    def _restore_timer(self, left_s: float) -> None:
        """Continue a timer that ran before."""
        passed_s = time.monotonic() - self._started
        signal.setitimer(signal.ITIMER_REAL, max(left_s - passed_s, 0.001) if left_s else 0.0)


@contextmanager
def watched_import(file: Path) -> Iterator[ImportWatch]:
    """Import a file within a deadline, and keep it from ending this process.

    Args:
        file: The imported file, for messages.

    Raises:
        ImportEnded: The import took longer than `IMPORT_S`, or called `os._exit`.
    """
    watch = ImportWatch(file)
    with ExitStack() as stack, waiting(f"the import of {file}", deadline_s=IMPORT_S):
        watch.guard(stack)
        yield watch
