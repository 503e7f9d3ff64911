"""The description of a probe."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from rft.auditing.findings import Finding

Profile = TypeVar("Profile")
"""What all probes of an audit share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe(Generic[Profile]):
    """A test of the graders of a run, or of its environment."""

    name: str
    """The probe's name in reports."""
    family: str
    """The group of related probes."""
    why: str
    """Why the weakness matters, with the source."""
    how: str
    """The completions that the probe grades, or the episodes that it plays."""
    threshold: str
    """The conditions of a failure and of a warning."""
    remedy: str
    """How to repair what failed."""
    run: Callable[[Profile], Awaitable[Finding]]
    """Runs the probe."""
