"""The stacks of a Python process on request, even while its interpreter hangs."""

from __future__ import annotations

import faulthandler
import signal

STDERR = 2
"""File descriptor of standard error, which Ray writes to a log file for each of its processes."""


def write_stacks_on_signal() -> None:
    """Make this process write the stacks of all its threads to standard error on SIGUSR1.

    The handler is written in C and needs no lock of the interpreter. A stopped process (SIGSTOP) does not answer.
    """
    faulthandler.register(signal.SIGUSR1, file=STDERR, all_threads=True)
