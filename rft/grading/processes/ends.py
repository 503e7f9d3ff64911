"""The end of a worker process, as the process that forked it reports it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import NamedTuple

PF_EXITING = 0x4
"""Kernel flag of a process that is ending and has closed its files, but cannot be waited for yet."""

FOREIGN_SIGNALS = (signal.SIGKILL, signal.SIGTERM)
"""Signals that come from the kernel when memory is short, from a service manager, or from another process."""


class End(NamedTuple):
    """The end of a worker process.

    Example:
        End(how="was ended by SIGKILL", from_outside=True)
    """

    how: str
    """The end in words, after "its worker process"."""
    from_outside: bool
    """Whether something other than the call may have ended or suspended the worker, so the call deserves a repeat."""


def is_suspended(process: int) -> bool | None:
    """Whether a signal such as SIGSTOP has suspended a process; None if the process is ending or has ended."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *others = stat.rpartition(")")[2].split()
    return None if state in "ZX" or int(others[5]) & PF_EXITING else state == "T"
