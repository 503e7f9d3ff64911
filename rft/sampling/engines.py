"""Engines on Ray: one actor each, started and closed together, used by one or several runs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Literal

import ray
from ray.exceptions import RayError

from rft.errors import SampleError
from rft.sampling.actor import SamplerActor
from rft.sampling.engine import Scores
from rft.sampling.spec import EngineSpec
from rft.sampling.stream import cause
from rft.waiting import wait_for


class SamplerHandle:
    """One actor, and its name in messages."""

    def __init__(self, name: str, actor: Any) -> None:
        self.name = name
        self.actor = actor
        self.base: Scores
        """Scores of the canaries under the base model."""
        self.facts: dict[str, Any]
        """Facts about its engine, by name."""


class Engines:
    """One or more actors with an engine each.

    The actors are created at once and load the model in the background. Actors that share GPUs load it in `start`, and
    those of one GPU one after the other: vLLM would take the memory of a starting neighbour for its own.

    Args:
        spec: The engine that every actor builds.
        actor_options: Ray's options of each actor: resources and placement.
        nodes: Name of each actor's node, for messages; empty if all run on this machine.
    """

    def __init__(
        self, spec: EngineSpec, *, actor_options: Sequence[Mapping[str, Any]], nodes: Sequence[str] = ()
    ) -> None:
        self.spec = spec
        names = [f"sampler {number}" for number in range(len(actor_options))]
        if nodes:
            names = [f"{name} on node {node}" for name, node in zip(names, nodes, strict=True)]
        actor = ray.remote(SamplerActor)
        self.samplers = tuple(
            SamplerHandle(name, actor.options(**options).remote(spec))
            for name, options in zip(names, actor_options, strict=True)
        )
        self.is_closed = False
        self.run_numbers = count()
        """Numbers of the runs, by which an engine separates policies."""
        self.stream_numbers = count()
        """Numbers of `SamplerActor.sample` calls of all runs."""

    @property
    def serve(self) -> Literal["adapter", "merged", "full"]:
        """How the engines serve policies: adapters beside the base model, merged adapters, or whole models."""
        return "full" if self.spec.max_lora_rank is None else self.spec.serve

    @property
    def facts(self) -> list[dict[str, Any]]:
        """Facts about the engine of each started sampler."""
        return [sampler.facts for sampler in self.samplers]

    async def start(self) -> None:
        """Wait until every engine is ready.

        Raises:
            SampleError: An engine could not be started.
            WaitTimeout: The engines did not start in time.
        """
        deadline_s = self.spec.sampler.start_timeout_s
        try:
            groups = await self._by_gpu(deadline_s) if self.spec.place.shares_gpu else [[one] for one in self.samplers]
            await wait_for(
                asyncio.gather(*map(_start_in_turn, groups)),
                what=f"{len(self.samplers)} sampler(s) to start",
                deadline_s=deadline_s * max(map(len, groups)),
            )
        except RayError as error:
            raise SampleError(f"a sampler could not be started: {cause(error)}") from error

    async def _by_gpu(self, deadline_s: float) -> list[list[SamplerHandle]]:
        """Return the samplers of each GPU."""
        places = await wait_for(
            asyncio.gather(*(sampler.actor.gpus.remote() for sampler in self.samplers)),
            what=f"the processes of {len(self.samplers)} sampler(s)",
            deadline_s=deadline_s,
        )
        groups: dict[tuple[str, ...], list[SamplerHandle]] = {}
        for sampler, place in zip(self.samplers, places, strict=True):
            groups.setdefault(place, []).append(sampler)
        return list(groups.values())

    def close(self) -> None:
        """Stop every actor."""
        self.is_closed = True
        for sampler in self.samplers:
            ray.kill(sampler.actor)


async def _start_in_turn(samplers: Sequence[SamplerHandle]) -> None:
    """Start samplers one after another."""
    for sampler in samplers:
        _, sampler.base = await sampler.actor.start.remote()
        sampler.facts = await sampler.actor.describe.remote()
