"""One question to a grader."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rft.auditing.findings import Finding
from rft.auditing.subject import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One question to a grader."""

    name: str
    """What it is called in reports."""
    family: str
    """What it belongs to."""
    why: str
    """Why it matters, with the source."""
    how: str
    """What is done."""
    threshold: str
    """When it fails and when it warns."""
    remedy: str
    """What to do about a failure."""
    look: Callable[[Subject], Awaitable[Finding]]
    """Does it."""
