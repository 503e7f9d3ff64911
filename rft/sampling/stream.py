"""Completions on their way from several actors to one consumer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from ray.exceptions import RayError, RayTaskError

from rft.errors import RftError, SampleError, SyncError
from rft.types import Policy, Rollout
from rft.waiting import wait_for


class RolloutStream(AsyncIterator[Rollout]):
    """The completions of one sample call, as they end; the requests are on their way already when it is made.

    Args:
        sources: What Ray streams from each actor.
        policy: Under which every completion must have been sampled.
        total: How many completions there will be.
        deadline_s: For the next completion, seconds.
        give_up: Tells the actors that nobody wants the rest.
    """

    def __init__(
        self,
        sources: Sequence[AsyncIterator[Awaitable[list[Rollout]]]],
        *,
        policy: Policy,
        total: int,
        deadline_s: float,
        give_up: Callable[[], None],
    ) -> None:
        self._arrived: asyncio.Queue[list[Rollout] | BaseException] = asyncio.Queue()
        self._pumps = [asyncio.create_task(self._pump(source)) for source in sources]
        self._policy = policy
        self._total = self._remaining = total
        self._deadline_s = deadline_s
        self._give_up = give_up
        self._batch: list[Rollout] = []

    async def __anext__(self) -> Rollout:
        """The next completion.

        Raises:
            SampleError: An actor failed.
            SyncError: A completion was sampled by another policy than the one asked for.
            WaitTimeout: No completion came in time.
        """
        if not self._batch and not self._remaining:
            raise StopAsyncIteration
        try:
            if not self._batch:
                self._batch = (await self._next_batch())[::-1]
            rollout = self._batch.pop()
            if rollout.policy != self._policy:
                raise SyncError(f"a completion was sampled by {rollout.policy.name}, not {self._policy.name}")
        except BaseException:  # cancelled or failed: nobody will ask for the rest
            await self.aclose()
            raise
        self._remaining -= 1
        return rollout

    async def _next_batch(self) -> list[Rollout]:
        batch = await wait_for(
            self._arrived.get(),
            what=f"{self._remaining} of {self._total} completions from {len(self._pumps)} sampler(s)",
            deadline_s=self._deadline_s,
        )
        if isinstance(batch, RayTaskError) and isinstance(batch.cause, RftError):
            raise batch.cause from None
        if isinstance(batch, BaseException):
            raise SampleError(f"a sampler failed: {cause(batch)}") from batch
        return batch

    async def _pump(self, source: AsyncIterator[Awaitable[list[Rollout]]]) -> None:
        """Bring what one actor samples into the queue that all share; its failure too."""
        try:
            async for reference in source:
                self._arrived.put_nowait(await reference)
        except RayError as error:
            self._arrived.put_nowait(error)

    async def aclose(self) -> None:
        """Give up what has not come yet."""
        if self._remaining:
            self._remaining = 0
            self._batch = []
            self._give_up()
        for pump in self._pumps:
            pump.cancel()


def cause(error: Any) -> str:
    """The last line of a failure's story, which is its cause; Ray puts the whole traceback before it."""
    return str(error).strip().splitlines()[-1]
