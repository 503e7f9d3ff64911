"""The result of a check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check.

    Example:
        Finding(check="shared memory", state="fail", found="64 MiB in /dev/shm", remedy="start the container with ...")
    """

    check: str
    """Subject of the check."""
    state: State
    """Whether the result is fine, a warning, or prevents rft from running."""
    found: str
    """Observation."""
    remedy: str = ""
    """Remedy; empty if the result is fine."""
