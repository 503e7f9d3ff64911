"""Ends a run in order: on Ctrl-C, when the system asks for it, or when the machine will be taken away.

    SIGINT     exit code 130    Ctrl-C: the current step is finished and saved
    SIGTERM    exit code 143    as Ctrl-C, but the step has a deadline
    SIGHUP     exit code 129    the terminal is closed: as SIGTERM; not if the command runs under nohup
    a notice   exit code 75     `loop.notice` announces the end of the machine: as SIGTERM

The first of them sets the exit code. After that, Ctrl-C stops at once, and anything else only sets the deadline:
schedulers often repeat SIGTERM, or send it after their notice.

If one process has several runs, a signal or a notice reaches each run, and their sweep.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
OVERDUE_CHECK_S = 1.0
"""Seconds between two checks of a step whose deadline has passed."""
NOTICE_EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h
"""Exit code of a run that was saved because of a notice: start it again."""
_listening: list[Interrupt] = []


def handled_signals() -> Iterator[signal.Signals]:
    """Yield the signals to handle. `nohup` ignores SIGHUP, so that a command survives its terminal."""
    for number in EXIT_CODES:
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            yield number


def listen_again() -> None:
    """Reinstall the handlers after a library replaced them; do nothing without listeners.

    Ray's core worker replaces them when a process connects. Its SIGTERM handler prints a C++ stack, calls the previous
    handler, and aborts the process three seconds later.

    Only the main thread can install handlers. On other threads, `tell_listeners` forwards signals.
    """
    if _listening and _on_main_thread():
        for number in handled_signals():
            asyncio.get_running_loop().add_signal_handler(number, tell_listeners, number)


class Interrupt:
    """Listens for signals and notices during the block; use it within the running event loop.

    Args:
        say: Receives a message about the next action.
        step_timeout_s: Seconds that the current step may take after a signal other than SIGINT, or after a notice; None
            sets no limit.
    """

    def __init__(self, say: Callable[[str], None], *, step_timeout_s: float | None = None) -> None:
        self._say = say
        self._step_timeout_s = step_timeout_s
        self._deadline: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self.exit_code: int | None = None
        """Exit code of a requested stop, or None."""
        self.can_wait = False
        """Whether the run can stop at the end of a step; otherwise the first signal stops at once."""
        self.can_drop_step: Callable[[], bool] = lambda: False
        """Whether the current step can be dropped, and the step before it saved."""
        self.is_learner_restarting: Callable[[], bool] = lambda: False
        """Whether the learner starts again. It can neither finish a step nor save soon, so a deadline ends the run."""
        self.on_request: Callable[[], None] = lambda: None
        """Called when a stop at the end of the step is requested."""
        self.has_dropped_step = False
        """Whether the deadline of the current step has passed, and its task was cancelled."""

    def __enter__(self) -> Interrupt:
        self._task = asyncio.current_task()
        _listening.append(self)
        if len(_listening) == 1:
            listen_again()
        return self

    def __exit__(self, *_: object) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        _listening.remove(self)
        if not _listening and _on_main_thread():
            for number in handled_signals():
                asyncio.get_running_loop().remove_signal_handler(number)

    @property
    def requested(self) -> bool:
        """Whether a stop was requested."""
        return self.exit_code is not None

    def receive(self, number: signal.Signals) -> None:
        """Request a stop at the end of the step, or at once if that is impossible; a later Ctrl-C stops at once."""
        if self.requested and number is signal.SIGINT:
            self._stop()
        else:
            self._request(EXIT_CODES[number], has_deadline=number is not signal.SIGINT)

    def notice(self, text: str) -> None:
        """Request a stop at the end of the step, or at once if that is impossible.

        Args:
            text: What announced the end of the machine.
        """
        if not self.requested:
            self._say(text)
        self._request(NOTICE_EXIT_CODE, has_deadline=True)

    def _request(self, exit_code: int, *, has_deadline: bool) -> None:
        """Request a stop; if one was requested before, only set the deadline."""
        if self.requested:
            if has_deadline and self._set_deadline():
                self._say(f"the current step has {self._step_timeout_s:g} s")
            return
        self.exit_code = exit_code
        if not self.can_wait:
            self._stop()
            return
        limit = f", for which it has {self._step_timeout_s:g} s" if has_deadline and self._set_deadline() else ""
        self._say(f"stopping after the current step is finished and saved{limit} (press again to stop at once)")
        self.on_request()

    def _set_deadline(self) -> bool:
        """Set the deadline of the current step; return False without a limit, or if a deadline is set already."""
        if self._step_timeout_s is None or self._deadline is not None:
            return False
        self._deadline = asyncio.get_running_loop().call_later(self._step_timeout_s, self._end_overdue_step)
        return True

    def _end_overdue_step(self) -> None:
        """Drop a step that is still being sampled, and save the step before it.

        A step that is being learned ends soon, and is saved. If the learner starts again, the run ends at once, with
        its last checkpoint.
        """
        if self._task is None:
            return
        if self.is_learner_restarting():
            self._say(
                f"the current step took longer than {self._step_timeout_s:g} s, and the learner starts again; "
                "stopping with the last checkpoint"
            )
            self._task.cancel()
            return
        if not self.has_dropped_step and self.can_wait and self.can_drop_step():
            self._say(f"the current step took longer than {self._step_timeout_s:g} s; saving the step before it")
            self.has_dropped_step = True
            self._task.cancel()
        self._deadline = asyncio.get_running_loop().call_later(OVERDUE_CHECK_S, self._end_overdue_step)

    def _stop(self) -> None:
        if self._task is not None:
            self._say("stopping at once")
            self._task.cancel()


class SweepInterrupt(Interrupt):
    """Listens for a whole sweep. Trials also listen and stop themselves. Without trials, the sweep stops at once."""

    def _request(self, exit_code: int, *, has_deadline: bool) -> None:
        """Request a stop: no further trial starts. Each trial has its own deadline."""
        if self.requested:
            return
        self.exit_code = exit_code
        if self._is_alone():
            self._stop()
        else:
            self._say(
                "stopping: running trials finish their step and save, and no further trial starts "
                "(press again to stop at once)"
            )

    def _stop(self) -> None:
        """Stop at once. Running trials stop themselves, and the sweep ends with them."""
        if self._is_alone():
            super()._stop()
        else:
            self._say("stopping at once")

    def _is_alone(self) -> bool:
        return all(listening is self for listening in _listening)


def tell_listeners(number: signal.Signals) -> bool:
    """Forward a signal to every listening `Interrupt`; return whether any listens. Call it on their event loop."""
    signal.alarm(0)  # Ray's handler may have set an alarm that aborts the process
    if number is signal.SIGHUP:
        _leave_terminal()
    listening = list(_listening)
    for interrupt in listening:
        interrupt.receive(number)
    return bool(listening)


def tell_listeners_of_notice(text: str) -> None:
    """Forward a notice to every listening `Interrupt`. Call it on their event loop.

    Args:
        text: What announced the end of the machine.
    """
    for interrupt in list(_listening):
        interrupt.notice(text)


def _leave_terminal() -> None:
    """Write the rest of the output nowhere, since writing to a closed terminal fails."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        if os.isatty(descriptor):
            os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _on_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
