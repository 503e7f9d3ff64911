"""Checks of limits that the operating system sets for this process: open files, and threads of all processes."""

from __future__ import annotations

import resource
from collections.abc import Iterator

from rft.doctor.finding import Finding
from rft.reliability.limits import MIN_THREADS, thread_limit

MIN_OPEN_FILES = 1024
"""Limit of open files that suffices; the default of most systems."""


def limit_findings() -> Iterator[Finding]:
    """Check the limits of this process."""
    yield open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield threads(thread_limit())


def open_files(limit: int) -> Finding:
    """Check the limit of open files, which include connections and pipes.

    Args:
        limit: The limit; `resource.RLIM_INFINITY` for none.
    """
    is_low = _number(limit) < MIN_OPEN_FILES
    return Finding(
        check="open files",
        state="fail" if is_low else "ok",
        found="no limit" if limit == resource.RLIM_INFINITY else f"at most {limit}",
        remedy=f"raise the limit: ulimit -n {MIN_OPEN_FILES}, or docker run --ulimit nofile=65536" if is_low else "",
    )


def threads(limit: float) -> Finding:
    """Check the limit of processes, in which each thread counts.

    Args:
        limit: The lowest limit; infinity for none.
    """
    is_low = limit < MIN_THREADS
    return Finding(
        check="processes and threads",
        state="fail" if is_low else "ok",
        found="no limit" if limit == float("inf") else f"at most {limit:.0f}",
        remedy=f"raise the limit to {MIN_THREADS} or more: ulimit -u, or docker run --pids-limit" if is_low else "",
    )


def _number(limit: int) -> float:
    return float("inf") if limit == resource.RLIM_INFINITY else float(limit)
