"""What the graders of a panel did, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rft.types import Score, Status


@dataclass(slots=True, kw_only=True)
class GraderCounters:
    """One grader's numbers, from the first call on.

    Example:
        GraderCounters(calls=8, cache_hits=2, retries=1, seconds=0.3, statuses=Counter({Status.OK: 9, ...}))
    """

    calls: int = 0
    """Calls of the grader: one a completion, one a group for graders of groups; retries count, cache hits do not."""
    cache_hits: int = 0
    """Calls that the cache saved."""
    retries: int = 0
    """Calls that were made again after a failure."""
    seconds: float = 0.0
    """Time spent in calls that came to an end, all together."""
    statuses: Counter[Status] = field(default_factory=Counter)
    """Completions by how the grader fared on them in the end."""

    def count_call(self, scores: Sequence[Score], *, is_retry: bool) -> None:
        """Count a call and what it gave."""
        self.calls += 1
        self.retries += is_retry
        self.seconds += scores[0].seconds

    @property
    def faults(self) -> dict[Status, int]:
        """Completions that the grader failed, by how."""
        return {status: count for status, count in self.statuses.items() if status.is_grader_fault}
