"""Limits how often a grader may fail: a reward without the failed scores would be a different reward."""

from __future__ import annotations

from collections import deque

from rft.errors import GradeError
from rft.types import Score

FEWEST_COMPLETIONS = 20
"""Minimum number of completions for a share, so that one early failure is not 100%."""

REASONS_SHOWN = 3

EXAMPLE_CHARS = 200
"""Number of characters of a completion in a message."""


class FaultBudget:
    """Counts the failures of one grader over its last completions.

    Args:
        grader: The grader's name.
        max_share: Share of the completions that it may fail, from 0 (none) to 1 (all).
        window: Number of completions to look back on.
    """

    def __init__(self, grader: str, *, max_share: float, window: int) -> None:
        self.grader = grader
        self.max_share = max_share
        self._faults: deque[bool] = deque(maxlen=window)
        self._examples: dict[str, tuple[str, str]] = {}

    def count(self, task_id: str, completion: str, score: Score) -> None:
        """Count a score.

        Args:
            task_id: The task of the graded completion, for the message.
            completion: The completion's text, for the message.
            score: The grader's score.

        Raises:
            GradeError: The share of failures exceeds the limit, or will once `FEWEST_COMPLETIONS` are graded.
        """
        self._faults.append(score.status.is_grader_fault)
        if not score.status.is_grader_fault:
            return
        reason = score.reason or str(score.status)
        self._examples.pop(reason, None)  # the latest example of a reason comes last
        self._examples[reason] = (task_id, completion[:EXAMPLE_CHARS])
        faults, counted = sum(self._faults), len(self._faults)
        fewest = min(FEWEST_COMPLETIONS, self._faults.maxlen or counted)
        if faults > self.max_share * max(counted, fewest):
            raise GradeError(self._message(faults, counted))

    def _message(self, faults: int, counted: int) -> str:
        last = list(self._examples.items())[-REASONS_SHOWN:]
        return "\n".join(
            [
                f"grader '{self.grader}' failed on {faults} of the last {counted} completions; "
                f"at most {self.max_share:.0%} may fail",
                *(
                    f"  - task {task_id}: {reason}\n    on the completion {completion!r}"
                    for reason, (task_id, completion) in reversed(last)
                ),
                "fix the grader, or raise grading.max_fault_share",
            ]
        )
