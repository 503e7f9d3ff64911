"""Completions on their way from several actors to one consumer."""

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
"""What Ray streams from one actor: an empty list once the requests are taken in, then completions."""

_PYDANTIC_LINK = "For further information visit https://errors.pydantic.dev/"
_PYDANTIC_INPUT = re.compile(r" \[type=\w+, input_value=.*\]$")

GO_ON = "go on from the last checkpoint with resume=<run folder>"
"""What to do when an actor is gone."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Requests that are on their way."""

    policy: Policy
    """Under which every completion must be sampled."""
    sources: Sequence[tuple[str, Source]]
    """One from each actor that is asked, with what messages call the actor."""
    give_up: Callable[[], None]
    """Tells the actors that nobody wants the rest."""


class RolloutStream(AsyncIterator[Rollout]):
    """The completions of one sample call, as they end. The requests leave when it is made, not when it is read.

    Args:
        dispatch: Sends the requests.
        after: When given, the requests leave only once this is set.
        total: How many completions there will be.
        deadline_s: For the next completion, seconds.
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
        """Set once every actor has taken its requests in, or failed to."""
        self._tasks: list[asyncio.Task[None]] = []
        self._pumps: dict[asyncio.Task[None], str] = {}
        if after is None:
            self._open(dispatch)
        else:
            self._tasks.append(asyncio.create_task(self._open_after(after, dispatch)))

    @property
    def is_on_its_way(self) -> bool:
        """Whether requests have left, but not every actor has taken them in."""
        return self._dispatched is not None and not self.is_taken.is_set()

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is at work any more."""
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
        """Bring what one actor samples into the queue that all share; its failure too."""
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
        """The next completion.

        Raises:
            SampleError: An actor failed.
            SyncError: A completion was sampled by another policy than the one asked for.
            WaitTimeout: No completion came in time.
        """
        if not self._remaining:
            raise StopAsyncIteration
        try:
            if not self._batch:
                self._batch = (await self._next_batch())[::-1]
            rollout = self._batch.pop()
            asked = self._dispatched.policy if self._dispatched else None
            if asked is None or rollout.policy != asked:
                raise SyncError(f"a completion was sampled by {rollout.policy.name}, not {asked and asked.name}")
        except BaseException:  # cancelled or failed: nobody will ask for the rest
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
        """Give up what has not come yet, and wait until nothing of it is at work any more."""
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
    """What is raised where a sampler failed: what rft said there on purpose, or else its name and the cause."""
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
    """The last line of a failure's story, which is its cause; Ray puts the whole traceback before it.

    Pydantic, with which vLLM checks its arguments, puts a link behind the cause, and what it was given.
    """
    lines = [line.strip() for line in str(error).strip().splitlines() if not line.strip().startswith(_PYDANTIC_LINK)]
    return _PYDANTIC_INPUT.sub("", lines[-1])
