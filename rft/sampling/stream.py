"""Streams completions from several actors to one consumer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayActorError, RayError, RayTaskError

from rft.errors import RftError, SampleError, SyncError
from rft.types import Policy, Rollout
from rft.waiting import wait_for

Source = AsyncIterator[Awaitable[list[Rollout]]]
"""The stream of one actor: an empty list after the receipt of requests, then completions."""

_PYDANTIC_LINK = "For further information visit https://errors.pydantic.dev/"
_PYDANTIC_INPUT = re.compile(r" \[type=\w+, input_value=.*\]$")

GO_ON = "continue from the last checkpoint with resume=<run folder>"
"""Remedy for a lost actor."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Requests that have been sent."""

    policy: Policy
    """The required policy of all completions."""
    sources: Sequence[tuple[str, Source]]
    """The stream of each actor, with the actor's name in messages."""
    give_up: Callable[[], None]
    """Cancels the remaining requests."""


class RolloutStream(AsyncIterator[Rollout]):
    """The completions of one sample call, as they end. Construction sends the requests, not iteration.

    Args:
        dispatch: Sends the requests.
        after: If given, the requests wait for this event.
        total: Number of completions.
        deadline_s: Seconds until the next completion.
    """

    def __init__(
        self, dispatch: Callable[[], Dispatch], *, after: asyncio.Event | None, total: int, deadline_s: float
    ) -> None:
        self._arrived: asyncio.Queue[list[Rollout] | RftError] = asyncio.Queue()
        self._total = self._remaining = total
        self._deadline_s = deadline_s
        self._batch: list[Rollout] = []
        self._dispatched: Dispatch | None = None
        self._num_not_taken = 0
        self.is_taken = asyncio.Event()
        """Set after every actor has received its requests or failed."""
        self._tasks: list[asyncio.Task[None]] = []
        self._pumps: dict[asyncio.Task[None], str] = {}
        if after is None:
            self._open(dispatch)
        else:
            self._tasks.append(asyncio.create_task(self._open_after(after, dispatch)))

    @property
    def is_on_its_way(self) -> bool:
        """Whether an actor has not yet received its requests."""
        return self._dispatched is not None and not self.is_taken.is_set()

    @property
    def is_over(self) -> bool:
        """Whether all work of the stream has ended."""
        return all(task.done() for task in self._tasks)

    async def _open_after(self, after: asyncio.Event, dispatch: Callable[[], Dispatch]) -> None:
        await after.wait()
        self._open(dispatch)

    def _open(self, dispatch: Callable[[], Dispatch]) -> None:
        self._dispatched = dispatch()
        self._num_not_taken = len(self._dispatched.sources)
        self._pumps = {asyncio.create_task(self._pump(*one)): one[0] for one in self._dispatched.sources}
        self._tasks += self._pumps
        if not self._tasks:
            self.is_taken.set()

    async def _pump(self, name: str, source: Source) -> None:
        """Put the completions of one actor, or its failure, into the shared queue."""
        taken = False
        try:
            async for reference in source:
                batch = await reference
                if not taken:
                    taken = True
                    self._take()
                else:
                    self._arrived.put_nowait(batch)
        except RayError as error:
            self._arrived.put_nowait(_failure(name, error))
        finally:
            if not taken:
                self._take()

    def _take(self) -> None:
        self._num_not_taken -= 1
        if not self._num_not_taken:
            self.is_taken.set()

    async def __anext__(self) -> Rollout:
        """Return the next completion.

        Raises:
            SampleError: An actor failed.
            SyncError: Another policy sampled a completion.
            WaitTimeout: No completion arrived in time.
        """
        if not self._remaining:
            raise StopAsyncIteration
        try:
            if not self._batch:
                self._batch = (await self._next_batch())[::-1]
            rollout = self._batch.pop()
            policy = self._dispatched.policy if self._dispatched else None
            if policy is None or rollout.policy != policy:
                raise SyncError(f"a completion was sampled by {rollout.policy.name}, not {policy and policy.name}")
        except BaseException:  # cancelled or failed: the rest is not needed
            await self.aclose()
            raise
        self._remaining -= 1
        return rollout

    async def _next_batch(self) -> list[Rollout]:
        names = ", ".join(name for pump, name in self._pumps.items() if not pump.done())
        batch = await wait_for(
            self._arrived.get(),
            what=f"{self._remaining} of {self._total} completions" + (f" from {names}" if names else ""),
            deadline_s=self._deadline_s,
        )
        if isinstance(batch, RftError):
            raise batch
        return batch

    async def aclose(self) -> None:
        """Cancel outstanding completions, and wait for the end of all work."""
        if self._remaining:
            self._remaining = 0
            self._batch = []
            if self._dispatched is not None:
                self._dispatched.give_up()
        for task in self._tasks:
            task.cancel()
        self.is_taken.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _failure(name: str, error: RayError) -> RftError:
    """Return the error for a failed sampler: rft's own error, or the sampler's name and the cause."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, RftError):
        return error.cause
    failure = SampleError(
        f"{name} is gone: {cause(error)}; {GO_ON}"
        if isinstance(error, RayActorError)
        else f"{name} failed: {cause(error)}"
    )
    failure.__cause__ = error
    return failure


def cause(error: Any) -> str:
    """Return the last line of a failure, its cause; Ray puts the traceback before it.

    Pydantic, which checks vLLM's arguments, appends a link and the input to the cause.
    """
    lines = [line.strip() for line in str(error).strip().splitlines() if not line.strip().startswith(_PYDANTIC_LINK)]
    return _PYDANTIC_INPUT.sub("", lines[-1])
