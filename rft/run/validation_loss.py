"""The loss on the answers of validation tasks, measured while a run learns from demonstrations.

Training loss and validation loss are the same number, the mean negative log-likelihood of the trained tokens, on
different rows. The difference between the two shows how much of what is learned carries over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rft.data.demonstration_records import Demonstration, TokenRow
from rft.data.demonstration_rows import RowRenderer
from rft.data.training_rows import TrainingRows
from rft.events import LossMeasured
from rft.types import Task


class RowScorer(Protocol):
    """Scores rows under the current policy."""

    async def losses(self, rows: Sequence[TokenRow]) -> list[float]:
        """Return `[N]` negative log-likelihoods of rows, each the sum over its trained tokens."""


class ValidationLoss:
    """Measures the loss on demonstrations.

    Args:
        rows: Renders the demonstrations that the learner takes; with other rows, there is no loss.
        tasks: The validation tasks; those without an answer have no loss.
    """

    def __init__(self, rows: TrainingRows, tasks: Sequence[Task]) -> None:
        self._rows = [
            (task.id, row)
            for task in tasks
            if isinstance(rows, RowRenderer) and isinstance(task, Demonstration)
            for row in rows.rows(task)
        ]

    def __bool__(self) -> bool:
        """Whether there is a demonstration."""
        return bool(self._rows)

    async def measure(self, learner: RowScorer, *, step: int) -> LossMeasured:
        """Return the losses under the learner's current policy, which is that of a step."""
        losses = await learner.losses([row for _, row in self._rows])
        sums: dict[str, float] = {}
        tokens: dict[str, int] = {}
        for (task_id, row), loss in zip(self._rows, losses, strict=True):
            sums[task_id] = sums.get(task_id, 0.0) + loss
            tokens[task_id] = tokens.get(task_id, 0) + sum(row.trained)
        return LossMeasured(
            step=step,
            loss=sum(sums.values()) / sum(tokens.values()),
            by_task={task_id: sums[task_id] / tokens[task_id] for task_id in sums},
        )
