"""Samples the turns of episodes, one request at a time, under one policy and with one sampler for each episode."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from rft.errors import RftError
from rft.sampling.busy_time import BusyTime
from rft.sampling.engine import Request, SamplingOptions
from rft.sampling.engines import SamplerHandle
from rft.sampling.stream import Messages, RolloutStream, StreamOwner
from rft.types import Rollout


class TurnStream(RolloutStream):
    """An open stream: requests come until `close`. The samplers keep its policy as long as it is open.

    The requests of one episode have its number as their index. They go to one sampler, whose cache holds the earlier
    turns; after the loss of that sampler, to another one.

    Args:
        owner: Sends the requests.
        options: Sampling options of every turn.
        ready: If given, the requests wait until it returns.
        deadline_s: Seconds until the next turn of a sampler that has requests.
    """

    def __init__(
        self,
        owner: StreamOwner,
        *,
        options: SamplingOptions,
        ready: Callable[[], Awaitable[None]] | None,
        deadline_s: float,
    ) -> None:
        self.closed = asyncio.Event()
        """Set after `close`."""
        self.busy = BusyTime()
        """The time in which the samplers have turns to sample, from the construction to `close`."""
        self._homes: dict[int, SamplerHandle] = {}
        self._waiting: dict[int, asyncio.Future[Rollout]] = {}
        self._error: RftError | None = None
        self._is_assigning = False
        self._has_requests = asyncio.Event()
        super().__init__(owner, (), options=options, ready=ready, deadline_s=deadline_s)
        self._reading = asyncio.create_task(self._read(), name="turns of episodes")

    @property
    def is_over(self) -> bool:
        """Whether the stream is closed."""
        return self.closed.is_set()

    @property
    def needs_policy(self) -> bool:
        """Whether a new sampler must hold the stream's policy: an episode may request another turn at any time."""
        return not self.is_over

    async def turn(self, request: Request) -> Rollout:
        """Sample one turn. Requests of the same moment are sent together.

        Args:
            request: The request; its index is the number of the episode.

        Raises:
            SampleError: A sampler failed, or too few samplers remain.
            SyncError: Another policy sampled the turn.
            WaitTimeout: No turn arrived in time, although the samplers are alive.
        """
        if self._error:
            raise self._error
        future: asyncio.Future[Rollout] = asyncio.get_running_loop().create_future()
        self._waiting[request.index] = future
        self.unassigned.append(request)
        self._total += 1
        self._remaining += 1
        self._has_requests.set()
        if not self._is_assigning:
            self._is_assigning = True
            asyncio.get_running_loop().call_soon(self._assign)
        return await future

    def _assign(self) -> None:
        self._is_assigning = False
        done = [call for call, pump in self._pumps.items() if pump.done()]
        for call in done:
            self._tasks.remove(self._pumps.pop(call))
            self.calls.remove(call)
        if self.policy is not None:
            self._owner.assign(self)

    def send(
        self, sampler: SamplerHandle, requests: Sequence[Request], messages: Messages, abort: Callable[[], None]
    ) -> None:
        """Receive turns, like `RolloutStream.send`."""
        self.busy.begin(sampler, len(requests))
        super().send(sampler, requests, messages, abort)

    def lose(self, sampler: SamplerHandle) -> int:
        """Take back the unfinished requests of a lost sampler; return their number."""
        self.busy.end_all(sampler)
        return super().lose(sampler)

    def divide(self, samplers: Sequence[SamplerHandle]) -> list[list[Request]]:
        """Take the unassigned requests, and give each to the sampler of its episode."""
        self.busy.available(len(samplers))
        load = Counter(dict.fromkeys(samplers, 0))
        load.update(home for home in self._homes.values() if home in load)
        shares: dict[SamplerHandle, list[Request]] = {sampler: [] for sampler in samplers}
        for request in self.unassigned:
            home = self._homes.get(request.index)
            if home not in shares:
                home = self._homes[request.index] = min(samplers, key=load.__getitem__)
                load[home] += 1
            shares[home].append(request)
        self.unassigned = []
        return list(shares.values())

    async def _read(self) -> None:
        """Give every turn to its episode."""
        try:
            while True:
                while not self._remaining:
                    self._has_requests.clear()
                    await self._has_requests.wait()
                rollout = await anext(self)
                self.busy.end(self._homes[rollout.index])
                if (future := self._waiting.pop(rollout.index, None)) and not future.done():
                    future.set_result(rollout)
        except RftError as error:
            self._error = error
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(error)

    async def close(self) -> None:
        """Cancel outstanding turns, and let the samplers drop the policy."""
        if self.closed.is_set():
            return
        self.closed.set()
        self.busy.stop()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self.aclose()
