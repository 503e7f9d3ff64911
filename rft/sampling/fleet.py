"""The fleet: Ray actors with one engine each, sampling side by side under one policy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from rft.errors import SampleError, SyncError
from rft.sampling.engine import Request, SamplingOptions, request_seed
from rft.sampling.spec import EngineSpec, build_engine
from rft.types import Adapter, FullWeights, Policy, Publication, Rollout, Sync, Task
from rft.waiting import wait_for


class SamplerActor:
    """One engine in a process of its own.

    Args:
        spec: The engine to build.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self._engine = build_engine(spec)

    def policy(self) -> Policy:
        """The policy that is served."""
        return self._engine.policy

    def load(self, adapter: Adapter | FullWeights) -> Policy:
        """Serve this adapter from the next request on."""
        assert isinstance(adapter, Adapter)
        return self._engine.load(adapter)

    def sample(self, requests: Sequence[Request], options: SamplingOptions) -> Iterator[list[Rollout]]:
        """Sample every request; completions stream out as they end."""
        yield from self._engine.sample(requests, options)


class Fleet:
    """One or more sampler actors behind one face.

    Args:
        spec: The engine that every actor builds.
        num_actors: How many actors.
        num_cpus: CPUs that Ray sets aside for each.
        num_gpus: GPUs that Ray sets aside for each, a fraction to share one.
        render: From a task to the token ids of its prompt.
        seed: Of the run; every completion's own seed is made from it.
        max_completion_tokens: A completion is cut here.
        start_timeout_s: Deadline for starting all engines, seconds.
        stall_timeout_s: Deadline for the next completion and for loading an adapter, seconds.
    """

    def __init__(
        self,
        spec: EngineSpec,
        *,
        num_actors: int,
        num_cpus: float,
        num_gpus: float,
        render: Callable[[Task], tuple[int, ...]],
        seed: int,
        max_completion_tokens: int,
        start_timeout_s: float,
        stall_timeout_s: float,
    ) -> None:
        self._render = render
        self._seed = seed
        self._max_completion_tokens = max_completion_tokens
        self._start_timeout_s = start_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._policy = spec.base
        actor = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus)(SamplerActor)
        self._actors: list[Any] = [actor.remote(spec) for _ in range(num_actors)]

    @property
    def policy(self) -> Policy:
        """The policy that every actor serves."""
        return self._policy

    async def start(self) -> None:
        """Wait until every engine is up.

        Raises:
            SampleError: An engine could not be started.
            WaitTimeout: They did not come up in time.
        """
        try:
            await wait_for(
                asyncio.gather(*(actor.policy.remote() for actor in self._actors)),
                what=f"{len(self._actors)} sampler(s) to start",
                deadline_s=self._start_timeout_s,
            )
        except RayError as error:
            raise SampleError(f"a sampler could not be started: {_cause(error)}") from error

    async def load(self, publication: Publication) -> Sync:
        """Bring a new adapter to every actor; each confirms which policy it now serves.

        Raises:
            SyncError: An actor failed, or serves another policy.
            WaitTimeout: They did not confirm in time.
        """
        adapter = publication.weights
        # One copy in Ray's object store serves all the actors of a node.
        reference = ray.put(adapter)
        try:
            confirmed = await wait_for(
                asyncio.gather(*(actor.load.remote(reference) for actor in self._actors)),
                what=f"{len(self._actors)} sampler(s) to load {adapter.policy.name}",
                deadline_s=self._stall_timeout_s,
            )
        except RayError as error:
            raise SyncError(f"a sampler could not load {adapter.policy.name}: {_cause(error)}") from error
        for number, policy in enumerate(confirmed):
            if policy != adapter.policy:
                raise SyncError(f"sampler {number} serves {policy.name} after it was given {adapter.policy.name}")
        self._policy = adapter.policy
        return Sync(policy=self._policy, proved=False, metrics={})

    async def sample(
        self, tasks: Sequence[Task], *, completions_per_task: int, temperature: float, purpose: str, step: int
    ) -> AsyncIterator[Rollout]:
        """Sample completions of tasks; each is yielded as soon as it ends, on whichever actor.

        Args:
            tasks: What to sample.
            completions_per_task: How many of each.
            temperature: Of the softmax.
            purpose: "train", "validation", ...: part of the seeds, so that purposes do not share their randomness.
            step: Number of the step, part of the seeds likewise.

        Raises:
            SampleError: An actor failed.
            SyncError: A completion was sampled by another policy than the one served.
            WaitTimeout: No completion came for `stall_timeout_s`.
        """
        options = SamplingOptions(temperature=temperature, max_completion_tokens=self._max_completion_tokens)
        arrived: asyncio.Queue[list[Rollout] | BaseException] = asyncio.Queue()
        shares: list[list[Request]] = [[] for _ in self._actors]
        for number, task in enumerate(tasks):
            prompt_ids = self._render(task)
            # The completions of a task stay on one actor, which computes their common prompt only once.
            shares[number % len(shares)] += [
                Request(
                    task_id=task.id,
                    index=index,
                    prompt_ids=prompt_ids,
                    seed=request_seed(self._seed, purpose, step, task.id, index),
                )
                for index in range(completions_per_task)
            ]
        pumps = [
            asyncio.create_task(_pump(actor, share, options, arrived))
            for actor, share in zip(self._actors, shares, strict=True)
            if share
        ]
        remaining = total = len(tasks) * completions_per_task
        try:
            while remaining:
                batch = await wait_for(
                    arrived.get(),
                    what=f"{remaining} of {total} completions from {len(pumps)} sampler(s)",
                    deadline_s=self._stall_timeout_s,
                )
                if isinstance(batch, BaseException):
                    raise SampleError(f"a sampler failed: {_cause(batch)}") from batch
                for rollout in batch:
                    if rollout.policy != self._policy:
                        raise SyncError(f"a completion was sampled by {rollout.policy.name}, not {self._policy.name}")
                    yield rollout
                remaining -= len(batch)
        finally:
            for pump in pumps:
                pump.cancel()

    def close(self) -> None:
        """End every actor."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []


async def _pump(actor: Any, share: Sequence[Request], options: SamplingOptions, arrived: asyncio.Queue[Any]) -> None:
    """Bring what one actor samples into the queue that all share; its failure too."""
    try:
        async for reference in actor.sample.options(num_returns="streaming").remote(share, options):
            await arrived.put(await reference)
    except RayError as error:
        await arrived.put(error)


def _cause(error: BaseException) -> str:
    """The last line of a failure's story, which is its cause; Ray puts the whole traceback before it."""
    return str(error).strip().splitlines()[-1]
