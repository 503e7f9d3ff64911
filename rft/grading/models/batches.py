"""Collects the rows of concurrent calls into batches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

Message = dict[str, Any]


class Row(NamedTuple):
    """One completion to score."""

    messages: list[Message]
    """The prompt as a chat."""
    answer: str
    """The completion."""


class Reward(NamedTuple):
    """A model's reward for one row."""

    value: float
    """The model's output."""
    num_tokens: int
    """Length of the input."""
    max_tokens: int
    """Limit of the input; a longer input loses its beginning."""


ScoreRows = Callable[[Sequence[Row]], Awaitable[Sequence[Reward]]]


class Batches:
    """Scores rows in batches, one batch at a time. Rows that arrive meanwhile form the next batch.

    Args:
        size: Maximum number of rows in a batch.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: deque[tuple[Row, asyncio.Future[Reward]]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self.score_rows: ScoreRows | None = None
        """Scores a batch; None until the model is loaded."""

    async def score(self, row: Row) -> Reward:
        """Return the reward of a row, from the next batch with room.

        Raises:
            RuntimeError: The model is not loaded.
            Exception: The error of the batch.
        """
        if self.score_rows is None:
            raise RuntimeError("the model is not loaded")
        reward: asyncio.Future[Reward] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, reward))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await reward

    def close(self) -> None:
        """Abandon the batch in progress."""
        if self._worker is not None:
            self._worker.cancel()
        self.score_rows = None

    async def _work(self) -> None:
        score_rows = self.score_rows
        assert score_rows is not None
        await asyncio.sleep(0)  # calls that start together share a batch
        while batch := self._next():
            try:
                rewards = await score_rows([row for row, _ in batch])
                if len(rewards) != len(batch):
                    raise RuntimeError(f"the model returned {len(rewards)} rewards for {len(batch)} completions")
            except Exception as error:
                for _, reward in batch:
                    if not reward.done():
                        reward.set_exception(error)
                continue
            for (_, reward), value in zip(batch, rewards, strict=True):
                if not reward.done():
                    reward.set_result(value)

    def _next(self) -> list[tuple[Row, asyncio.Future[Reward]]]:
        """Take the next batch, without the rows whose calls missed their deadline."""
        batch: list[tuple[Row, asyncio.Future[Reward]]] = []
        while self._waiting and len(batch) < self._size:
            row, reward = self._waiting.popleft()
            if not reward.done():
                batch.append((row, reward))
        return batch
