"""Counts the calls of the graders of a panel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rft.types import Score, Status


@dataclass(slots=True, kw_only=True)
class GraderCounters:
    """The counts of one grader.

    Example:
        GraderCounters(calls=8, cache_hits=2, retries=1, seconds=0.3, statuses=Counter({Status.OK: 9, ...}))
    """

    calls: int = 0
    """Calls of the grader, one per completion or per group; retries count, cache hits do not."""
    cache_hits: int = 0
    """Calls that the cache answered."""
    retries: int = 0
    """Repeated calls after a failure."""
    seconds: float = 0.0
    """Total duration of completed calls."""
    statuses: Counter[Status] = field(default_factory=Counter)
    """Completions by the status of their score."""

    def count_call(self, scores: Sequence[Score], *, is_retry: bool) -> None:
        """Count a call and its scores."""
        self.calls += 1
        self.retries += is_retry
        self.seconds += scores[0].seconds

    @property
    def faults(self) -> dict[Status, int]:
        """Completions on which the grader failed, by status."""
        return {status: count for status, count in self.statuses.items() if status.is_grader_fault}
