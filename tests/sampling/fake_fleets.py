"""A fleet of engines in this process, and what tests do with it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from rft.sampling.fake_engine import FakeEngine
from rft.sampling.fleet import Fleet
from rft.sampling.sampler_events import SamplerEvent
from rft.sampling.spec import EngineSpec
from rft.sampling.stream import RolloutStream
from rft.types import Publication, Rollout, Split, Task

from .conftest import CANARIES, FAKE_SPEC
from .fake_actors import FakeEngines

TASKS = [Task(id=name, messages=({"role": "user", "content": name},), item={}, split=Split.TRAIN) for name in "abcde"]
SPEC = replace(FAKE_SPEC, canaries=CANARIES)


def make_spec(*, staleness: int = 0, num_runs: int = 1, serve: Any = "adapter", **settings: Any) -> EngineSpec:
    """The spec of a fake engine."""
    sampler = SPEC.sampler.model_copy(update=settings)
    return replace(SPEC, sampler=sampler, staleness=staleness, num_runs=num_runs, serve=serve)


class World:
    """Engines, and the fleet of one run."""

    def __init__(
        self, spec: EngineSpec, num_actors: int, builds: Sequence[Callable[[EngineSpec], Any]], num_late: int = 0
    ) -> None:
        self.late = asyncio.Event()
        """Set when the samplers without a place have one."""
        self.engines = FakeEngines(spec, num_actors=num_actors, builds=builds, late=self.late, num_late=num_late)
        self.events: list[SamplerEvent] = []
        self.warnings: list[str] = []
        self.fleet = self.join()

    def join(self, seed: int = 0) -> Fleet:
        """The fleet of another run."""
        return Fleet(
            self.engines,
            self.engines.spec.sampler,
            render=lambda task: (len(task.id), 7),
            seed=seed,
            warn=self.warnings.append,
            tell=self.events.append,
        )

    def of(self, kind: type) -> list[Any]:
        """The events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, kind: type, number: int = 1) -> None:
        """Wait for events."""
        while len(self.of(kind)) < number:
            await asyncio.sleep(0)


def start(fleet: Fleet, step: int = 1) -> RolloutStream:
    """The stream of a step: three completions of five tasks."""
    return fleet.sample(TASKS, completions_per_task=3, temperature=1.0, purpose="train", step=step)


async def rest(stream: RolloutStream) -> list[Rollout]:
    """All completions of a stream, in order."""
    return sorted([one async for one in stream], key=lambda one: (one.task_id, one.index))


async def received(stream: RolloutStream) -> None:
    """Wait until the samplers have all requests."""
    while stream.policy is None or stream.unassigned:
        await asyncio.sleep(0)
    for call in list(stream.calls):
        await call.is_received.wait()


def run(
    job: Callable[[World], Coroutine[Any, Any, Any]],
    spec: EngineSpec,
    *,
    num_actors: int = 1,
    builds: Sequence[Callable[[EngineSpec], Any]] = (FakeEngine,),
    num_late: int = 0,
) -> Any:
    """Run a job on engines that have started."""

    async def work() -> Any:
        world = World(spec, num_actors, builds, num_late)
        await world.engines.start()
        try:
            return await job(world)
        finally:
            await world.fleet.end_streams()

    return asyncio.run(asyncio.wait_for(work(), 60))


def late(event: threading.Event) -> Callable[[EngineSpec], FakeEngine]:
    """Build an engine after an event."""

    def build(spec: EngineSpec) -> FakeEngine:
        event.wait(60)
        return FakeEngine(spec)

    return build


def undisturbed(publication: Publication | None = None) -> list[Rollout]:
    """The completions of a run that loses no sampler."""

    async def job(world: World) -> list[Rollout]:
        if publication:
            await world.fleet.load(publication)
        return await rest(start(world.fleet))

    rollouts: list[Rollout] = run(job, make_spec())
    return rollouts
