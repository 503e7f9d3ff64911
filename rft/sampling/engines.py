"""Engines on Ray: one actor each, used by one or several runs, and replaced when lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from itertools import count
from typing import Any, Literal

import ray
from ray.exceptions import RayError

from rft.errors import SampleError, WaitTimeout
from rft.sampling.actor import SamplerActor
from rft.sampling.engine import Scores
from rft.sampling.failures import cause, is_loss, loss
from rft.sampling.sampler_events import SamplerEvent, SamplerLost
from rft.sampling.spec import EngineSpec
from rft.types import Adapter, FullWeights
from rft.waiting import blocking, wait_for

START_ATTEMPTS = 3
"""Starts of one replacement. An engine that dies at each start would die at the next, too."""
RECONNECT_S = 5.0
"""Seconds between two attempts to reach a lost server."""


class SamplerHandle:
    """One actor, and its name in messages."""

    def __init__(self, name: str, actor: Any) -> None:
        self.name = name
        self.actor = actor
        """The actor; None without a place."""
        self.is_lost = False
        """Whether the actor was given up, or has no place yet. The actor that follows has its own handle."""
        self.base: Scores
        """Scores of the canaries under the base model."""
        self.facts: dict[str, Any] = {}
        """Facts about its engine, by name."""


class StartTimeout(WaitTimeout):
    """A sampler that had its place did not start in time."""


Listener = Callable[[SamplerHandle, str], None]
"""Receives a lost sampler, and the reason."""


class Engines:
    """One or more actors with an engine each.

    The actors are created at once and load the model in the background. Actors that share GPUs load it in `start`, and
    those of one GPU one after the other: vLLM would take the memory of a starting neighbour for its own.

    Args:
        spec: The engine that every actor builds.
        actor_options: Ray's options of each actor: resources and placement.
        nodes: Name of each present actor's node, for messages; empty if all run on this machine.
        prepare: Prepares the node for the replacement of the sampler with this number, and returns the node's name.
        tell: Receives the samplers that die during `start`.
        num_late: Number of actors, the last ones, that have no place yet.
        until_placed: Waits until the sampler with this number has a place.
        role: Name of the actors in messages, before their number.
    """

    def __init__(
        self,
        spec: EngineSpec,
        *,
        actor_options: Sequence[Mapping[str, Any]],
        nodes: Sequence[str] = (),
        prepare: Callable[[int], Awaitable[str]] | None = None,
        tell: Callable[[SamplerEvent], None] = lambda event: None,
        num_late: int = 0,
        until_placed: Callable[[int], Awaitable[None]] | None = None,
        role: str = "sampler",
    ) -> None:
        self.spec = spec
        self._prepare = prepare
        self._tell = tell
        self._actor_options = actor_options
        self._until_placed = until_placed
        self._role = role
        names = [f"{role} {number}" for number in range(len(actor_options))]
        present, late = names[: len(names) - num_late], names[len(names) - num_late :]
        if nodes:
            present = [f"{name} on node {node}" for name, node in zip(present, nodes, strict=True)]
        self.late = tuple(map(_without_place, late))
        """The samplers without a place at the start, which join later."""
        self.samplers = (
            *(SamplerHandle(name, self._create(number)) for number, name in enumerate(present)),
            *self.late,
        )
        """The sampler of each place."""
        self.is_closed = False
        self.run_numbers = count()
        """Numbers of the runs, by which an engine separates policies."""
        self.stream_numbers = count()
        """Numbers of `SamplerActor.sample` calls of all runs."""
        self.listeners: list[Listener] = []
        """Called for each lost sampler; every run that uses the engines has one."""
        self._num_restarts = 0
        self._replacements: dict[SamplerHandle, asyncio.Task[SamplerHandle]] = {}
        self._one_start = asyncio.Lock()

    @property
    def serve(self) -> Literal["adapter", "merged", "full"]:
        """How the engines serve policies: adapters beside the base model, merged adapters, or whole models."""
        return "full" if self.spec.max_lora_rank is None else self.spec.serve

    @property
    def facts(self) -> list[dict[str, Any]]:
        """Facts about the engine of each started sampler."""
        return [sampler.facts for sampler in self.present]

    @property
    def present(self) -> list[SamplerHandle]:
        """The samplers that are not lost, and have a place."""
        return [sampler for sampler in self.samplers if not sampler.is_lost]

    @property
    def num_started(self) -> int:
        """Number of samplers that have started, including those that were lost since."""
        return sum(sampler not in self.late for sampler in self.samplers)

    def _create(self, place: int) -> Any:
        """Create the actor of a place."""
        return ray.remote(SamplerActor).options(**self._actor_options[place]).remote(self.spec)

    def _kill(self, actor: Any) -> None:
        """Kill an actor, even if it hangs."""
        ray.kill(actor)

    async def store(self, weights: Adapter | FullWeights) -> Any:
        """Store the weights of a policy: one copy in Ray's object store serves all actors of a node.

        Raises:
            WaitTimeout: Ray did not take them in time.
        """
        deadline_s = self.spec.sampler.stall_timeout_s
        return await blocking(lambda: ray.put(weights), what="Ray to store a policy", deadline_s=deadline_s)

    async def start(self) -> None:
        """Wait until every engine is ready.

        Raises:
            SampleError: An engine could not be started.
            WaitTimeout: The engines did not start in time.
        """
        deadline_s = self.spec.sampler.start_timeout_s
        try:
            groups = await self._by_gpu(deadline_s) if self.spec.place.shares_gpu else [[one] for one in self.present]
            await wait_for(
                asyncio.gather(*map(self._start_in_turn, groups)),
                what=f"{len(self.present)} {self._role}(s) to start",
                deadline_s=deadline_s * max(map(len, groups)),
            )
        except RayError as error:
            raise SampleError(f"a {self._role} could not be started: {cause(error)}") from error
        for late in self.late:  # its base model must equal that of the others
            late.base = self.samplers[0].base

    async def _start_in_turn(self, samplers: Sequence[SamplerHandle]) -> None:
        """Start samplers one after another. One whose process dies meanwhile starts again."""
        for sampler in samplers:
            for attempt in range(1, START_ATTEMPTS + 1):
                try:
                    await _start(sampler)
                    break
                except RayError as error:
                    if not is_loss(error) or self.spec.sampler.is_remote or attempt == START_ATTEMPTS:
                        raise
                    self._tell(SamplerLost(sampler=sampler.name, reason=loss(sampler.name, error), num_completions=0))
                self._count_restart()
                self._kill(sampler.actor)
                sampler.actor = self._create(self.samplers.index(sampler))

    async def _by_gpu(self, deadline_s: float) -> list[list[SamplerHandle]]:
        """Return the samplers of each GPU."""
        places = await wait_for(
            asyncio.gather(*(sampler.actor.gpus.remote() for sampler in self.present)),
            what=f"the processes of {len(self.present)} sampler(s)",
            deadline_s=deadline_s,
        )
        groups: dict[tuple[str, ...], list[SamplerHandle]] = {}
        for sampler, place in zip(self.present, places, strict=True):
            groups.setdefault(place, []).append(sampler)
        return list(groups.values())

    def lose(self, sampler: SamplerHandle, reason: str) -> None:
        """Give up a sampler that died, hangs, or failed a proof, for all runs that use it.

        Args:
            sampler: The sampler; its actor is killed.
            reason: The reason, with the sampler's name.
        """
        if sampler.is_lost or self.is_closed:
            return
        sampler.is_lost = True
        self._kill(sampler.actor)
        for listener in list(self.listeners):
            listener(sampler, reason)

    async def until_placed(self, late: SamplerHandle) -> None:
        """Wait until a sampler that had no place at the start has one; `replacement` then starts it."""
        if self._until_placed is not None:
            await self._until_placed(self.late.index(late) + len(self.samplers) - len(self.late))

    async def replacement(self, lost: SamplerHandle) -> SamplerHandle:
        """Return the started sampler in the place of a lost one. All runs that ask receive the same one.

        Raises:
            SampleError: The replacement could not be started, or all restarts are used up.
            WaitTimeout: It had no place in time.
        """
        if lost not in self._replacements:
            self._replacements[lost] = asyncio.create_task(self._replace(lost), name=f"replacement of {lost.name}")
        return await asyncio.shield(self._replacements[lost])

    async def _replace(self, lost: SamplerHandle) -> SamplerHandle:
        place = self.samplers.index(lost)
        ends_s = time.monotonic() + self.spec.sampler.replacement_timeout_s
        num_attempts = 0
        while True:
            num_attempts += 1
            if num_attempts > 1 or lost not in self.late:
                self._count_restart()
            try:
                # On one GPU, vLLM would take the memory of another starting engine for its own.
                async with self._one_start if self.spec.place.shares_gpu else nullcontext():
                    sampler = await self._start_in(place, lost.name)
            except (RayError, StartTimeout) as error:
                may_pass = isinstance(error, StartTimeout) or is_loss(error)
                is_unreachable = self.spec.sampler.is_remote and time.monotonic() < ends_s
                if not may_pass or (num_attempts >= START_ATTEMPTS and not is_unreachable):
                    raise SampleError(f"its replacement could not be started: {cause(error)}") from error
                if is_unreachable:
                    self._num_restarts -= 1  # the server, not a sampler, failed
                    await asyncio.sleep(RECONNECT_S)
                continue
            self.samplers = tuple(sampler if one is lost else one for one in self.samplers)
            return sampler

    def _count_restart(self) -> None:
        limit = self.spec.sampler.max_restarts
        if self._num_restarts >= limit:
            raise SampleError(f"it is not replaced, since sampler.max_restarts={limit} allows no further restart")
        self._num_restarts += 1

    async def _start_in(self, place: int, name: str) -> SamplerHandle:
        """Start a sampler in a place, which may have to wait for a node.

        Raises:
            StartTimeout: The sampler had its place, and did not start in time.
            WaitTimeout: It had no place in time.
        """
        settings = self.spec.sampler
        if self._prepare is not None:
            name = f"{self._role} {place} on node {await self._prepare(place)}"
        sampler = SamplerHandle(name, self._create(place))
        try:
            await wait_for(
                sampler.actor.gpus.remote(),
                what=f"a place for a replacement of {name} (sampler.replacement_timeout_s)",
                deadline_s=settings.replacement_timeout_s,
            )
            await _start_in_time(sampler, what=f"a replacement of {name} to start", deadline_s=settings.start_timeout_s)
        except BaseException:
            self._kill(sampler.actor)
            raise
        return sampler

    async def end_replacements(self) -> None:
        """Cancel the starts of replacements. Call it before the end of the Ray session."""
        for task in self._replacements.values():
            task.cancel()
        await asyncio.gather(*self._replacements.values(), return_exceptions=True)

    def close(self) -> None:
        """Stop every actor."""
        self.is_closed = True
        for task in self._replacements.values():
            task.cancel()
        for sampler in self.samplers:
            if sampler.actor is not None:
                self._kill(sampler.actor)


def _without_place(name: str) -> SamplerHandle:
    sampler = SamplerHandle(name, None)
    sampler.is_lost = True
    return sampler


async def _start_in_time(sampler: SamplerHandle, *, what: str, deadline_s: float) -> None:
    try:
        await wait_for(_start(sampler), what=what, deadline_s=deadline_s)
    except WaitTimeout as error:
        raise StartTimeout(what, deadline_s) from error


async def _start(sampler: SamplerHandle) -> None:
    """Wait until a sampler has started."""
    _, sampler.base = await sampler.actor.start.remote()
    sampler.facts = await sampler.actor.describe.remote()
