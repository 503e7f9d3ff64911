"""How often a grader may fail before the run stops: a reward made of what is left would be another reward."""

from __future__ import annotations

from collections import deque

from rft.errors import GradeError
from rft.types import Score

FEWEST_COMPLETIONS = 20
"""A share is taken of at least so many completions, so that one early failure is not 100%."""

REASONS_SHOWN = 3

EXAMPLE_CHARS = 200
"""Of each completion shown, so much."""


class FaultBudget:
    """Counts one grader's failures over the last completions that it graded.

    Args:
        grader: The grader's name.
        max_share: Share of the completions that it may fail, from 0 (none) to 1 (all).
        window: How many completions are looked back on.
    """

    def __init__(self, grader: str, *, max_share: float, window: int) -> None:
        self.grader = grader
        self.max_share = max_share
        self._faults: deque[bool] = deque(maxlen=window)
        self._examples: dict[str, tuple[str, str]] = {}

    def count(self, task_id: str, completion: str, score: Score) -> None:
        """Count a score.

        Args:
            task_id: The task of the completion that was graded, for the message.
            completion: Its text, for the message.
            score: What the grader gave.

        Raises:
            GradeError: The share of failures is exceeded, or is certain to be once `FEWEST_COMPLETIONS` are graded.
        """
        self._faults.append(score.status.is_grader_fault)
        if not score.status.is_grader_fault:
            return
        reason = score.reason or str(score.status)
        self._examples.pop(reason, None)  # so that it is last again
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
