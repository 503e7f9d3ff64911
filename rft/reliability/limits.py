"""Limits of the operating system that a process can meet at any call, with their remedies. Standard library only."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

MORE_FILES = "raise the limit of open files (ulimit -n)"
MORE_PROCESSES = "raise the limit of processes and threads (ulimit -u, or the limit of the container: --pids-limit)"
MIN_THREADS = 2000
"""Limit of threads that suffices on one machine. Each process of Ray has dozens."""
GROUP = Path("/sys/fs/cgroup")
"""Control group of a container."""
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


def thread_limit() -> float:
    """Return the lowest limit of processes and threads that binds this process; infinity for none."""
    limits = [_group_limit(GROUP)]
    if os.geteuid() != 0:  # the limit of a user does not bind root
        of_user = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        limits.append(float("inf") if of_user == resource.RLIM_INFINITY else float(of_user))
    return min(limits)


def remedy_of_few_threads() -> str | None:
    """Return the remedy if fewer processes and threads are allowed than suffice; else None."""
    limit = thread_limit()
    return (
        None if limit >= MIN_THREADS else f"only {limit:.0f} processes and threads are allowed here; {MORE_PROCESSES}"
    )


def _group_limit(group: Path) -> float:
    """Return the limit of a control group."""
    try:
        text = (group / "pids.max").read_text().strip()
    except OSError:  # no control group, or one without this limit
        return float("inf")
    return float("inf") if text == "max" else float(text)
