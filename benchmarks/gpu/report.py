"""The result of a part: one JSON line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """The outcome of a part."""

    PASSED = "passed"
    """All its checks hold."""
    FAILED = "failed"
    """A check does not hold, or the part raised an error."""
    TIMED_OUT = "timed_out"
    """It did not end before its deadline."""
    NOT_RUN = "not_run"
    """It did not start."""


class NotRun(Exception):
    """A part cannot run on this machine; the message states the reason."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The checks and measurements of a part.

    Example:
        Result(part="nccl", outcome=Outcome.PASSED, seconds=4.1, checks={"sum": True}, figures={"backend": "nccl"})
    """

    part: str
    """Its name."""
    outcome: Outcome
    """Its outcome."""
    reason: str = ""
    """Reason if it did not pass; empty otherwise."""
    seconds: float = 0.0
    """Duration of its process."""
    checks: Mapping[str, bool] = field(default_factory=dict)
    """Conditions by name, and whether they hold."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Measurements by name, with units in the names."""

    def line(self) -> str:
        """Return the result as one line of JSON."""
        return json.dumps(asdict(self))


class Notes:
    """Collects the checks and figures of a part while it runs."""

    def __init__(self) -> None:
        self.checks: dict[str, bool] = {}
        self.figures: dict[str, Any] = {}

    def check(self, name: str, holds: bool) -> None:
        """Note whether a condition holds."""
        self.checks[name] = holds

    def note(self, **figures: Any) -> None:
        """Note measurements."""
        self.figures |= figures


def summary(results: Sequence[Result]) -> str:
    """Return the outcome of each part with its reason, and the number of parts by outcome."""
    width = max(len(result.part) for result in results)
    lines = [
        f"{result.part:<{width}}  {result.outcome:<9}  {result.seconds:6.1f} s  {result.reason}".rstrip()
        for result in results
    ]
    counts = [f"{sum(result.outcome is outcome for result in results)} {outcome}" for outcome in Outcome]
    return "\n".join([*lines, ", ".join(counts)])
