"""Streams completions from several actors to one consumer, and keeps the requests that a lost actor has left."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

from ray.exceptions import RayError

from rft.errors import RftError, SampleError, SyncError, WaitTimeout
from rft.sampling.contact import Contact
from rft.sampling.engine import Request, SamplingOptions
from rft.sampling.engines import SamplerHandle
from rft.types import Policy, Rollout
from rft.waiting import wait_for, waiting

Messages = AsyncIterator[Awaitable[list[Rollout]]]
"""The messages of one actor: an empty list after the receipt of requests, then completions."""
Key = tuple[str, int]
"""Task id and index, which identify a completion within a stream."""

MAX_NAMED = 3
"""Largest number of missing completions whose tasks a wait names."""
MAX_LOSSES = 5
"""Samplers with which one request may be lost. A request that ends every engine would otherwise end all replacements,
too."""


class Unfinished:
    """Requests without a completion. A step with few tasks may contain equal requests.

    Args:
        requests: The requests.
    """

    def __init__(self, requests: Iterable[Request]) -> None:
        self._by_key: dict[Key, list[Request]] = {}
        for request in requests:
            self._by_key.setdefault((request.task_id, request.index), []).append(request)

    def end(self, rollout: Rollout) -> bool:
        """Remove the request of a completion; return False if there is none."""
        key = (rollout.task_id, rollout.index)
        waiting = self._by_key.get(key)
        if waiting is None:
            return False
        waiting.pop()
        if not waiting:
            del self._by_key[key]
        return True

    def take_all(self) -> list[Request]:
        """Remove and return all requests."""
        requests = list(self)
        self._by_key.clear()
        return requests

    def __iter__(self) -> Iterator[Request]:
        # Of copies: the progress display iterates in another thread.
        return (request for requests in list(self._by_key.values()) for request in list(requests))

    def __bool__(self) -> bool:
        return bool(self._by_key)


@dataclass(eq=False, kw_only=True)
class Call:
    """The requests of a stream that one sampler works on."""

    sampler: SamplerHandle
    """The sampler."""
    unfinished: Unfinished
    """Requests whose completions have not arrived."""
    abort: Callable[[], None]
    """Cancels the unfinished requests."""
    is_received: asyncio.Event = field(default_factory=asyncio.Event)
    """Set after the sampler has received the requests, failed, or was lost."""
    heard_s: float = field(default_factory=time.monotonic)
    """`time.monotonic()` of the last message, or of the request."""


class StreamOwner(Protocol):
    """Sends the requests of a stream to samplers, and handles the failures of samplers."""

    def assign(self, stream: RolloutStream) -> None:
        """Send the unassigned requests of a stream to samplers; called once at its start."""

    def sampler_failed(self, stream: RolloutStream, sampler: SamplerHandle, error: RayError) -> None:
        """Handle the failure of a sampler that works for a stream."""

    def duplicates_dropped(self, sampler: SamplerHandle, num_completions: int) -> None:
        """Count completions that nobody requested, or that have arrived before."""

    async def is_alive(self, sampler: SamplerHandle) -> bool:
        """Ask a silent sampler for a sign of life; one without is lost, and its requests are reassigned."""


class RolloutStream(AsyncIterator[Rollout]):
    """The completions of one sample call, as they end. Construction sends the requests, not iteration.

    Args:
        owner: Sends the requests.
        requests: What to sample.
        options: Sampling options.
        ready: If given, the requests wait until it returns.
        deadline_s: Seconds until the next completion.
    """

    def __init__(
        self,
        owner: StreamOwner,
        requests: Sequence[Request],
        *,
        options: SamplingOptions,
        ready: Callable[[], Awaitable[None]] | None,
        deadline_s: float,
    ) -> None:
        self.options = options
        self.policy: Policy | None = None
        """The required policy of all completions; None before the requests are assigned."""
        self.unassigned = list(requests)
        """Requests that no sampler works on."""
        self.calls: list[Call] = []
        self._owner = owner
        self._total = self._remaining = len(requests)
        self._deadline_s = deadline_s
        self._arrived: asyncio.Queue[list[Rollout] | RftError] = asyncio.Queue()
        self._batch: list[Rollout] = []
        self._num_losses: Counter[Key] = Counter()
        self._tasks: list[asyncio.Task[None]] = []
        self._pumps: dict[Call, asyncio.Task[None]] = {}
        if ready is None:
            owner.assign(self)
        else:
            self._tasks.append(asyncio.create_task(self._assign_after(ready)))

    @property
    def is_over(self) -> bool:
        """Whether all work of the stream has ended."""
        return not self.unassigned and all(task.done() for task in self._tasks)

    @property
    def needs_policy(self) -> bool:
        """Whether a new sampler must hold the stream's policy."""
        return bool(self.unassigned)

    def divide(self, samplers: Sequence[SamplerHandle]) -> list[list[Request]]:
        """Take the unassigned requests, and divide them among samplers.

        One sampler receives all completions of a task, so that it computes the prompt only once.

        Returns:
            `[len(samplers)]` requests of each sampler.
        """
        tasks = [list(requests) for _, requests in groupby(self.unassigned, key=lambda request: request.task_id)]
        self.unassigned = []
        number = len(samplers)
        return [[each for requests in tasks[place::number] for each in requests] for place in range(number)]

    async def _assign_after(self, ready: Callable[[], Awaitable[None]]) -> None:
        try:
            await ready()
        except RftError as error:
            self.fail(error)
        else:
            self._owner.assign(self)

    def send(
        self, sampler: SamplerHandle, requests: Sequence[Request], messages: Messages, abort: Callable[[], None]
    ) -> None:
        """Receive the completions of requests that were sent to a sampler.

        Args:
            sampler: The sampler.
            requests: The requests, which are no longer unassigned.
            messages: The sampler's messages.
            abort: Cancels the requests.
        """
        self._wake()
        call = Call(sampler=sampler, unfinished=Unfinished(requests), abort=abort)
        self.calls.append(call)
        self._pumps[call] = asyncio.create_task(self._pump(call, messages))
        self._tasks.append(self._pumps[call])

    async def _pump(self, call: Call, messages: Messages) -> None:
        """Put the completions of one sampler into the shared queue."""
        try:
            async for reference in messages:
                batch = await reference
                call.heard_s = time.monotonic()
                if not call.is_received.is_set():
                    call.is_received.set()
                    continue
                new = [rollout for rollout in batch if call.unfinished.end(rollout)]
                if len(new) < len(batch):
                    self._owner.duplicates_dropped(call.sampler, len(batch) - len(new))
                if new:
                    self._arrived.put_nowait(new)
        except RayError as error:
            self._owner.sampler_failed(self, call.sampler, error)
        finally:
            call.is_received.set()

    def lose(self, sampler: SamplerHandle) -> int:
        """Take back the unfinished requests of a lost sampler; return their number."""
        lost: list[Request] = []
        for call in [call for call in self.calls if call.sampler is sampler]:
            self.calls.remove(call)
            self._pumps.pop(call).cancel()
            call.is_received.set()
            lost += call.unfinished.take_all()
        self.unassigned += lost
        self._wake()
        self._num_losses.update((request.task_id, request.index) for request in lost)
        if max(self._num_losses.values(), default=0) >= MAX_LOSSES:
            (task_id, index), num_losses = self._num_losses.most_common(1)[0]
            self.fail(
                SampleError(
                    f"{num_losses} samplers were lost while they sampled completion {index} of task {task_id}; its "
                    "prompt may end the engine, or a step takes longer than sampler.stall_timeout_s"
                )
            )
        return len(lost)

    async def until_idle(self) -> None:
        """Wait until no sampler works on requests."""
        while at_work := [pump for pump in self._pumps.values() if not pump.done()]:
            with waiting(self._what):
                await asyncio.wait(at_work)

    def _wake(self) -> None:
        """Let the consumer determine its deadline again: an empty batch."""
        self._arrived.put_nowait([])

    def fail(self, error: RftError) -> None:
        """Let the consumer raise an error."""
        self._arrived.put_nowait(error)

    async def __anext__(self) -> Rollout:
        """Return the next completion.

        Raises:
            SampleError: A sampler failed, or too few samplers remain.
            SyncError: Another policy sampled a completion.
            WaitTimeout: No completion arrived in time, although the samplers are alive.
        """
        if not self._remaining:
            raise StopAsyncIteration
        try:
            if not self._batch:
                self._batch = (await self._next_batch())[::-1]
            rollout = self._batch.pop()
            if rollout.policy != self.policy:
                expected = self.policy.name if self.policy else None
                raise SyncError(f"a completion was sampled by {rollout.policy.name}, not {expected}")
        except BaseException:  # cancelled or failed: the rest is not needed
            await self.aclose()
            raise
        self._remaining -= 1
        return rollout

    async def _next_batch(self) -> list[Rollout]:
        since_s = time.monotonic()
        while True:
            busy = [call for call in self.calls if call.unfinished]
            try:
                batch = await self._next_arrival(busy)
            except WaitTimeout:
                if await self._has_living(busy):
                    if time.monotonic() - since_s >= self._deadline_s:
                        raise WaitTimeout(self._what(), self._deadline_s) from None
                else:
                    since_s = time.monotonic()
                continue
            if isinstance(batch, RftError):
                raise batch
            if batch:
                return batch
            since_s = time.monotonic()

    async def _next_arrival(self, busy: Sequence[Call]) -> list[Rollout] | RftError:
        """Wait for a batch, an error, or a change of the busy samplers.

        Raises:
            WaitTimeout: A busy sampler was silent until the deadline.
        """
        if not busy:  # the requests wait for a replacement, which has its own deadlines
            with waiting(self._what):
                return await self._arrived.get()
        deadline_s = min(call.heard_s for call in busy) + self._deadline_s - time.monotonic()
        return await wait_for(self._arrived.get(), what=self._what, deadline_s=max(0.0, deadline_s))

    async def _has_living(self, busy: Sequence[Call]) -> bool:
        """Whether one of the samplers that were silent until the deadline is alive. The others are lost."""
        now = time.monotonic()
        silent = [call for call in busy if now - call.heard_s >= self._deadline_s]
        are_alive = await asyncio.gather(*(self._owner.is_alive(call.sampler) for call in silent))
        for call, is_alive in zip(silent, are_alive, strict=True):
            if is_alive:
                call.heard_s = time.monotonic()
        return any(are_alive)

    def _what(self) -> str:
        """Name what is missing: "1 of 64 completions from sampler 3: task 417, sampling". Any thread may call this."""
        missing = [(call, list(call.unfinished)) for call in list(self.calls)]
        names = ", ".join(dict.fromkeys(call.sampler.name for call, requests in missing if requests))
        text = f"{self._remaining} of {self._total} completions" + (f" from {names}" if names else "")
        if 0 < sum(len(requests) for _, requests in missing) <= MAX_NAMED:
            named = [
                f"task {request.task_id}, {'sampling' if call.is_received.is_set() else 'not received yet'}"
                for call, requests in missing
                for request in requests
            ]
            text += f": {'; '.join(dict.fromkeys(named))}"
        return text

    async def aclose(self) -> None:
        """Cancel outstanding completions, and wait for the end of all work."""
        if self._remaining:
            self._remaining = 0
            self._batch, self.unassigned = [], []
            for call in self.calls:
                if call.unfinished:
                    call.abort()
        for task in self._tasks:
            task.cancel()
        for call in self.calls:
            call.is_received.set()
        self.calls = []  # the loss of a sampler takes nothing back from a closed stream
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def until_received(streams: Iterable[RolloutStream], contact: Contact) -> None:
    """Wait until the samplers have received all requests of streams.

    Ray may reorder calls of an actor, so the requests under the previous policy must arrive before a load.
    """
    calls: dict[SamplerHandle, list[Awaitable[object]]] = {}
    for call in (call for stream in streams for call in stream.calls if not call.is_received.is_set()):
        calls.setdefault(call.sampler, []).append(call.is_received.wait())
    receipts = {sampler: asyncio.gather(*waits) for sampler, waits in calls.items()}
    await contact.ask(receipts, "to receive their requests")
