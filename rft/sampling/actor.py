"""The Ray actor that owns one engine. It accepts requests and policies while it steps the engine."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import ray

from rft.errors import SampleError, SyncError
from rft.reliability.stack_traces import write_stacks_on_signal
from rft.sampling.build import build_engine
from rft.sampling.engine import Engine, Loaded, Request, SamplingOptions, Scores, TopRequest, Tops
from rft.sampling.shared_requests import SharedRequests
from rft.sampling.spec import EngineSpec
from rft.types import Adapter, FullWeights, Logprobs, Policy, Rollout

T = TypeVar("T")

GATHER_S = 0.02
"""Default seconds during which an actor collects completions for one message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """A sampler's report on a policy that it has loaded.

    Example:
        Confirmation(loaded=Loaded(...), scores=Scores(...), load_s=0.01, proof_s=0.02)
    """

    loaded: Loaded
    """Result of reading the weights back."""
    scores: Scores
    """Scores of the canaries."""
    load_s: float
    """Seconds for loading and reading back, without the wait for unfinished requests."""
    proof_s: float
    """Seconds for scoring the canaries."""


class SamplerActor:
    """One engine in its own process.

    The engine samples requests of several calls together, and can load a policy meanwhile. One thread makes all calls
    of the engine, in turn, between two steps.

    Args:
        spec: The engine to build.
        build: Builds it.
    """

    def __init__(self, spec: EngineSpec, build: Callable[[EngineSpec], Engine] = build_engine) -> None:
        write_stacks_on_signal()
        self._spec = spec
        self._canaries = spec.canaries
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._build = build
        # Engines on one GPU start one after the other: while it sizes its cache, vLLM takes all memory for its own.
        self._building: Future[Engine] | None = None
        if not spec.place.shares_gpu:
            self._building = self._thread.submit(build, spec)
        self._is_asleep = False
        self._num_waiting = 0
        self._progress_s = time.monotonic()
        self._streams: dict[int, asyncio.Queue[Rollout | BaseException]] = {}
        self._shared_requests = SharedRequests()
        # Held by a load that waits for an idle engine, so that no new request precedes it.
        self._gate = asyncio.Lock()
        self._driver: asyncio.Task[None] | None = None

    @property
    def _engine(self) -> Engine:
        assert self._building is not None  # `start` comes first
        return self._building.result()

    def gpus(self) -> tuple[str, ...]:
        """Return the node of this process, followed by the GPUs that Ray has assigned to it."""
        context = ray.get_runtime_context()
        return (context.get_node_id(), *context.get_accelerator_ids().get("GPU", ()))

    async def start(self) -> tuple[Policy, Scores]:
        """Wait for the engine; return its policy (the base model) and the base model's scores of the canaries."""
        if self._building is None:
            self._building = self._thread.submit(self._build, self._spec)
        await asyncio.wrap_future(self._building)
        return self._engine.policies[-1], await self._in_turn(lambda: self._engine.score(self._canaries))

    async def pulse(self) -> float:
        """Return the seconds since the engine last completed a step or began a call; 0 while it has no work."""
        return time.monotonic() - self._progress_s if self._num_waiting else 0.0

    async def describe(self) -> dict[str, Any]:
        """Return facts about the engine, which has started."""
        return await self._in_turn(self._engine.describe)

    async def load(self, weights: Adapter | FullWeights, run: int = 0) -> Confirmation:
        """Load this policy as the newest of a run. If it overwrites the previous one, unfinished requests finish first.

        A sleeping engine wakes, so after each sleep a policy is loaded and proved anew.

        Raises:
            SyncError: The engine cannot serve the policy.
        """

        def load() -> Confirmation:
            began = time.perf_counter()
            if self._is_asleep:
                self._engine.wake()
                self._is_asleep = False
            loaded = self._engine.load(weights, run)
            done = time.perf_counter()
            scores = self._engine.score(self._canaries)
            return Confirmation(loaded=loaded, scores=scores, load_s=done - began, proof_s=time.perf_counter() - done)

        async with self._gate:
            if self._engine.loads_in_place and self._driver is not None:
                await asyncio.wait([self._driver])
            return await self._in_turn(load)

    async def logprobs(self, sequences: Sequence[Sequence[int]]) -> Logprobs:
        """Return `[N][L - 1]` log-probabilities of N sequences of L token ids under the newest policy."""
        return await self._in_turn(lambda: self._engine.logprobs(sequences))

    async def top_logprobs(self, sequences: Sequence[Sequence[int]], request: TopRequest) -> Tops:
        """Return the same log-probabilities, and the most probable tokens at each position."""
        return await self._in_turn(lambda: self._engine.top_logprobs(sequences, request))

    async def sleep(self) -> None:
        """Free the engine's memory until the next load; unfinished requests finish first."""

        def sleep() -> None:
            self._engine.sleep()
            self._is_asleep = True

        async with self._gate:
            if self._driver is not None:
                await asyncio.wait([self._driver])
            if not self._is_asleep:
                await self._in_turn(sleep)

    async def sample(
        self,
        stream: int,
        requests: Sequence[Request],
        options: SamplingOptions,
        policy: Policy,
        run: int = 0,
        gather_s: float = GATHER_S,
    ) -> AsyncIterator[list[Rollout]]:
        """Sample all requests. An empty list confirms their receipt; then completions stream out as they end.

        Args:
            stream: Number of this call, for `abort`.
            requests: What to sample.
            options: Sampling options.
            policy: The policy to sample from.
            run: The run of the policy.
            gather_s: Seconds during which completions are collected for one message. The last completions of the
                call never wait.

        Raises:
            SyncError: The engine does not have the policy.
        """
        ended: asyncio.Queue[Rollout | BaseException] = asyncio.Queue()
        self._streams[stream] = ended
        try:
            async with self._gate:
                if self._is_asleep:
                    raise SyncError("this sampler sleeps until its next sync")
                to_sample = requests
                if self._spec.num_runs > 1 and policy == self._spec.base:
                    to_sample, there = self._shared_requests.ask(stream, requests, options)
                    for rollout in there:
                        ended.put_nowait(rollout)
                try:
                    await self._in_turn(lambda: self._engine.add(stream, to_sample, options, policy, run))
                except BaseException:
                    self._shared_requests.leave(stream)
                    raise
                if self._driver is None or self._driver.done():
                    self._driver = asyncio.create_task(self._drive())
            yield []  # received
            remaining, left_s = len(requests), -math.inf
            while remaining:
                batch = await _gathered(ended, remaining, until_s=left_s + gather_s)
                left_s = time.monotonic()
                rollouts = [item for item in batch if isinstance(item, Rollout)]
                if rollouts:
                    yield rollouts
                for item in batch:
                    if isinstance(item, BaseException):
                        raise item
                remaining -= len(rollouts)
        finally:
            self._streams.pop(stream, None)

    async def forget(self, run: int) -> None:
        """Drop the policies of a run that has ended."""
        await self._in_turn(lambda: self._engine.forget(run))

    async def abort(self, stream: int) -> None:
        """Abort the unfinished requests of a call."""
        for idle in self._shared_requests.leave(stream):
            await self._in_turn(partial(self._engine.abort, idle))
        if (ended := self._streams.get(stream)) is not None:
            ended.put_nowait(SampleError("this call was aborted"))

    async def _drive(self) -> None:
        """Step the engine while it has work."""
        loop = asyncio.get_running_loop()

        def deliver(ended: list[tuple[int, Rollout]]) -> None:
            loop.call_soon_threadsafe(self._deliver, ended)

        while self._engine.has_unfinished:
            try:
                await self._in_turn(partial(self._advance, deliver))
            except Exception as failure:
                for stream, ended in list(self._streams.items()):
                    ended.put_nowait(failure)
                    for idle in self._shared_requests.leave(stream):
                        await self._in_turn(partial(self._engine.abort, idle))

    def _advance(self, deliver: Callable[[list[tuple[int, Rollout]]], None]) -> None:
        """Step until the engine is idle or another call waits for it.

        The engine does not wait for the event loop between steps: `deliver` passes completions on as they end.
        """
        is_alone = True
        while is_alone and self._engine.has_unfinished:
            if ended := self._engine.step():
                deliver(ended)
            self._progress_s = time.monotonic()
            is_alone = self._num_waiting == 1

    def _deliver(self, ended: list[tuple[int, Rollout]]) -> None:
        """Put finished completions into the queues of their streams."""
        for sampled_in, rollout in ended:
            for stream in self._shared_requests.end(sampled_in, rollout):
                if (queue := self._streams.get(stream)) is not None:
                    queue.put_nowait(rollout)

    async def _in_turn(self, do: Callable[[], T]) -> T:
        """Run a function in the engine's thread, after earlier calls."""

        def begin() -> T:
            self._progress_s = time.monotonic()
            return do()

        self._num_waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, begin)
        finally:
            self._num_waiting -= 1


async def _gathered(
    ended: asyncio.Queue[Rollout | BaseException], max_rollouts: int, *, until_s: float
) -> list[Rollout | BaseException]:
    """Return at least one finished completion, and those before `until_s`, unless all are done or one failed."""
    batch = [await ended.get()]
    while len(batch) < max_rollouts and isinstance(batch[-1], Rollout):
        if not ended.empty():
            batch.append(ended.get_nowait())
            continue
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            break
        try:
            async with asyncio.timeout(left_s):
                batch.append(await ended.get())
        except TimeoutError:
            break
    return batch
