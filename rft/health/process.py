"""Tells whether a process still lives, even if another one has received its number."""

from __future__ import annotations

import os
from pathlib import Path


def start_of(pid: int) -> int | None:
    """Return the start of a process in clock ticks since boot, which no change of the clock affects.

    Returns:
        None if the process has ended, or on a system without /proc.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # after the program's name; proc(5) numbers them from 3
    return None if fields[0] == "Z" else int(fields[19])


def lives(pid: int, started: int | None) -> bool:
    """Whether a process of this machine still lives.

    Args:
        pid: Number of the process.
        started: Its start, from `start_of`; None if unknown.
    """
    if started is not None:
        return start_of(pid) == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to another user
        return True
    return True
