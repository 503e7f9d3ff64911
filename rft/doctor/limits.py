"""Checks of limits that the operating system sets for this process: open files, and threads of all processes."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from rft.doctor.finding import Finding

MIN_OPEN_FILES = 1024
"""Limit of open files that suffices; the default of most systems."""
MIN_THREADS = 2000
"""Limit of threads that suffices on one machine. Each process of Ray has dozens."""
GROUP = Path("/sys/fs/cgroup")
"""Control group of a container."""


def limit_findings() -> Iterator[Finding]:
    """Check the limits of this process."""
    yield open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    limits = [_group_limit(GROUP)]
    if os.geteuid() != 0:  # the limit of a user does not bind root
        limits.append(_number(resource.getrlimit(resource.RLIMIT_NPROC)[0]))
    yield threads(min(limits))


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


def _group_limit(group: Path) -> float:
    """Return the limit of a control group."""
    try:
        text = (group / "pids.max").read_text().strip()
    except OSError:  # no control group, or one without this limit
        return float("inf")
    return float("inf") if text == "max" else float(text)


def _number(limit: int) -> float:
    return float("inf") if limit == resource.RLIM_INFINITY else float(limit)
