"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Example:
        Finding(check="shared memory", state="fail", found="64 MiB in /dev/shm", remedy="start the container with ...")
    """

    check: str
    """What was looked at."""
    state: State
    """Whether it is right, may do, or keeps rft from running."""
    found: str
    """What was found."""
    remedy: str = ""
    """What to do; empty where it is right."""
