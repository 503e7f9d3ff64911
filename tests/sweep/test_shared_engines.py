"""When shared engines start and end, with fakes for the engines and their place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from rft.config import RunConfig
from rft.config.commands import load_training
from rft.errors import SampleError
from rft.grading.processes.fork_server import ForkServers
from rft.run.parts import SharedRay
from rft.sampling.spec import EnginePlace, EngineSpec
from rft.sweep import shared_engines as sharing
from rft.sweep.shared_engines import SharedEngines

from .conftest import INPUTS, StandIn

RUN = load_training(["experiment=quickstart"], "/nowhere")
RAY = SharedRay(address="127.0.0.1:6379", parallel=2, fork_servers=ForkServers())
WIDE = load_training(["experiment=quickstart", "learner.adapter.rank=32", "loop.staleness=3"], "/nowhere")
A, B = INPUTS, replace(INPUTS, context_tokens=128)
"""Stand for the inputs of trials with one kind of engines, and with another."""


class FakeEngines:
    """Start at once, or fail to."""

    def __init__(self, spec: EngineSpec, fails: bool) -> None:
        self.spec, self._fails = spec, fails
        self.is_closed = False

    async def start(self) -> None:
        if self._fails:
            raise SampleError("no engine")

    async def end_replacements(self) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True


class World:
    """What was started, and which places are taken."""

    def __init__(self) -> None:
        self.engines: list[FakeEngines] = []
        self.places = 0
        self.next_fails = False


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()

    @asynccontextmanager
    async def place(run: Any, **_: Any) -> AsyncIterator[None]:
        world.places += 1
        yield
        world.places -= 1

    def spec(run: RunConfig, prepared: StandIn, place: None, *, max_lora_rank: int) -> EngineSpec:
        return EngineSpec(
            sampler=run.sampler,
            base=prepared.base,
            dtype="float32",
            max_lora_rank=max_lora_rank,
            max_context_tokens=prepared.context_tokens,
            seed=0,
            staleness=run.loop.staleness,
            max_requests=64,
            place=EnginePlace(model=prepared.model, num_threads=1, num_gpus=0),
        )

    def engines(spec: EngineSpec, place: None) -> FakeEngines:
        world.engines.append(FakeEngines(spec, world.next_fails))
        return world.engines[-1]

    monkeypatch.setattr(sharing, "workplace", place)
    monkeypatch.setattr(sharing.build, "engine_spec", spec)
    monkeypatch.setattr(sharing.build, "engines", engines)
    return world


def run(job: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(job(), 30))


def engines(*trials: StandIn, are_all: bool = True) -> SharedEngines:
    return SharedEngines([(RUN, trial) for trial in trials], parallel=2, are_all=are_all)  # type: ignore[misc]


def test_one_set_of_samplers_until_the_last_trial_ends(world: World) -> None:
    async def job() -> None:
        shared = SharedEngines([(RUN, A), (WIDE, A), (RUN, A)], parallel=2, are_all=True)  # type: ignore[list-item]
        async with shared.lease(RUN, A, RAY) as first, shared.lease(WIDE, A, RAY) as second:  # type: ignore[arg-type]
            assert first is second
            await first.is_up()
        (started,) = world.engines
        assert (started.spec.max_lora_rank, started.spec.staleness, started.spec.num_runs) == (32, 3, 2)
        assert started.spec.max_requests == 128, "the requests of two parallel trials"
        assert not started.is_closed, "one more is to come"
        async with shared.lease(RUN, A, RAY):  # type: ignore[arg-type]
            assert len(world.engines) == 1
        assert (started.is_closed, world.places) == (True, 0)

    run(job)


@pytest.mark.parametrize(("are_all", "rank"), [(True, 32), (False, 48)])
def test_ranks_of_stacked_starts(world: World, are_all: bool, rank: int) -> None:
    """A later trial of a search may train the rank of one example on top of the start of the other."""

    async def job() -> None:
        stacked = replace(A, rank_below=16)
        examples: Any = [(RUN, stacked), (WIDE, A)]  # 8 on top of 16, and 32
        async with SharedEngines(examples, parallel=2, are_all=are_all).lease(WIDE, A, RAY):  # type: ignore[arg-type]
            assert world.engines[0].spec.max_lora_rank == rank

    run(job)


def test_other_samplers_wait_until_these_are_free(world: World) -> None:
    async def job() -> None:
        shared = engines(A, B, are_all=False)
        free = asyncio.Event()
        order = []

        async def trial(name: str, inputs: Any) -> None:
            async with shared.lease(RUN, inputs, RAY):
                order.append(f"{name} begins")
                if name == "a":
                    await free.wait()
                order.append(f"{name} ends")

        first = asyncio.create_task(trial("a", A))
        await asyncio.sleep(0)
        second = asyncio.create_task(trial("b", B))
        for _ in range(10):
            await asyncio.sleep(0)
        assert order == ["a begins"]
        free.set()
        await asyncio.gather(first, second)
        assert order == ["a begins", "a ends", "b begins", "b ends"]
        assert [one.is_closed for one in world.engines] == [True, False]
        async with shared:
            pass
        assert (world.engines[1].is_closed, world.places) == (True, 0)

    run(job)


def test_samplers_that_did_not_come_up_are_started_anew(world: World) -> None:
    async def job() -> None:
        shared = engines(A, A, are_all=False)
        world.next_fails = True
        with pytest.raises(SampleError, match="no engine"):
            async with shared.lease(RUN, A, RAY) as leased:  # type: ignore[arg-type]
                await leased.is_up()
        assert (world.engines[0].is_closed, world.places) == (True, 0)
        world.next_fails = False
        async with shared.lease(RUN, A, RAY) as leased:  # type: ignore[arg-type]
            await leased.is_up()
        assert len(world.engines) == 2

    run(job)


def test_samplers_by_which_a_trial_failed_serve_nobody_new(world: World) -> None:
    async def job() -> None:
        shared = engines(A, A, A)
        free = asyncio.Event()

        async def trial() -> None:
            async with shared.lease(RUN, A, RAY):  # type: ignore[arg-type]
                await free.wait()

        with pytest.raises(SampleError, match="an engine died"):
            async with shared.lease(RUN, A, RAY):  # type: ignore[arg-type]
                first = asyncio.create_task(trial())
                await asyncio.sleep(0)
                raise SampleError("an engine died")
        second = asyncio.create_task(trial())
        for _ in range(10):
            await asyncio.sleep(0)
        assert (len(world.engines), world.engines[0].is_closed) == (1, False)
        free.set()
        await asyncio.gather(first, second)
        assert [one.is_closed for one in world.engines] == [True, True]

    run(job)
