"""The description of a probe."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rft.auditing.findings import Finding
from rft.auditing.grader_profile import GraderProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A test of the graders of a run."""

    name: str
    """The probe's name in reports."""
    family: str
    """The group of related probes."""
    why: str
    """Why the weakness matters, with the source."""
    how: str
    """The completions that the probe grades."""
    threshold: str
    """The conditions of a failure and of a warning."""
    remedy: str
    """How to repair the grader."""
    run: Callable[[GraderProfile], Awaitable[Finding]]
    """Runs the probe."""
