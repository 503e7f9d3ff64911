"""Limits of the operating system that a process can meet at any call, with their remedies. Standard library only."""

from __future__ import annotations

import errno
import os

MORE_FILES = "raise the limit of open files (ulimit -n)"
MORE_PROCESSES = "raise the limit of processes and threads (ulimit -u, or the limit of the container: --pids-limit)"
NO_THREAD = "can't start new thread"
"""Text of Python's RuntimeError."""


def remedy_of_limit(error: Exception) -> str | None:
    """Return the remedy if an error says that no file can be opened, or no process or thread started; else None."""
    if isinstance(error, RuntimeError):
        return MORE_PROCESSES if str(error) == NO_THREAD else None
    if not isinstance(error, OSError):
        return None
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return MORE_FILES
    # A pipe that is full has the same number, but Python gives it another text.
    is_fork = error.errno == errno.EAGAIN and error.strerror == os.strerror(errno.EAGAIN)
    return MORE_PROCESSES if is_fork else None
