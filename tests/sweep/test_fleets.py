"""When shared samplers start and end, with fakes for the samplers and their place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from rft.config.commands import load_training
from rft.errors import SampleError
from rft.grading.processes.fork_server import ForkServers
from rft.run.parts import SharedRay
from rft.sampling.spec import EngineSpec
from rft.sweep import shared_fleets as sharing
from rft.sweep.shared_fleets import SharedFleets

from .conftest import VLLM_SPEC as SPEC

RUN = load_training(["experiment=quickstart"], "/nowhere")
RAY = SharedRay(address="127.0.0.1:6379", parallel=2, fork_servers=ForkServers())


def inputs(**changes: Any) -> Any:
    """Stand for the inputs of a trial whose samplers differ so."""
    return SimpleNamespace(spec=replace(SPEC, **changes), model=SPEC.model, base=SPEC.base)


A, B = inputs(), inputs(max_context_tokens=128)


class FakeFleet:
    """Starts at once, or fails to."""

    def __init__(self, spec: EngineSpec, fails: bool) -> None:
        self.spec, self._fails = spec, fails
        self.is_closed = False

    async def start(self) -> None:
        if self._fails:
            raise SampleError("no engine")

    def close(self) -> None:
        self.is_closed = True


class World:
    """What was started, and which places are taken."""

    def __init__(self) -> None:
        self.fleets: list[FakeFleet] = []
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

    def fleet(*_: Any, spec: EngineSpec, **__: Any) -> FakeFleet:
        world.fleets.append(FakeFleet(spec, world.next_fails))
        return world.fleets[-1]

    monkeypatch.setattr(sharing, "workplace", place)
    monkeypatch.setattr(sharing, "spec_of", lambda run, prepared: prepared.spec)
    monkeypatch.setattr(sharing.build, "fleet", fleet)
    monkeypatch.setattr(
        sharing.build, "engine_spec", lambda run, prepared, place, max_lora_rank: replace(
            prepared.spec, max_lora_rank=max_lora_rank
        )
    )  # fmt: skip
    return world


def run(job: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(job(), 30))


def fleets(*trials: Any, are_all: bool = True) -> SharedFleets:
    return SharedFleets([(RUN, trial) for trial in trials], parallel=2, are_all=are_all)


def test_one_set_of_samplers_until_the_last_trial_ends(world: World) -> None:
    async def job() -> None:
        wide = inputs(max_lora_rank=32, staleness=3)
        shared = fleets(A, wide, A)
        async with shared.lease(RUN, A, RAY) as first, shared.lease(RUN, wide, RAY) as second:
            assert first is second
            await first.is_up()
        (fleet,) = world.fleets
        assert (fleet.spec.max_lora_rank, fleet.spec.staleness, fleet.spec.num_runs) == (32, 3, 2)
        assert not fleet.is_closed, "one more is to come"
        async with shared.lease(RUN, A, RAY):
            assert len(world.fleets) == 1
        assert (fleet.is_closed, world.places) == (True, 0)

    run(job)


def test_other_samplers_wait_until_these_are_free(world: World) -> None:
    async def job() -> None:
        shared = fleets(A, B, are_all=False)
        free = asyncio.Event()
        order = []

        async def trial(name: str, kind: Any) -> None:
            async with shared.lease(RUN, kind, RAY):
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
        assert [fleet.is_closed for fleet in world.fleets] == [True, False]
        async with shared:
            pass
        assert (world.fleets[1].is_closed, world.places) == (True, 0)

    run(job)


def test_samplers_that_did_not_come_up_are_started_anew(world: World) -> None:
    async def job() -> None:
        shared = fleets(A, A, are_all=False)
        world.next_fails = True
        with pytest.raises(SampleError, match="no engine"):
            async with shared.lease(RUN, A, RAY) as leased:
                await leased.is_up()
        assert (world.fleets[0].is_closed, world.places) == (True, 0)
        world.next_fails = False
        async with shared.lease(RUN, A, RAY) as leased:
            await leased.is_up()
        assert len(world.fleets) == 2

    run(job)


def test_samplers_by_which_a_trial_failed_serve_nobody_new(world: World) -> None:
    async def job() -> None:
        shared = fleets(A, A, A)
        free = asyncio.Event()

        async def trial() -> None:
            async with shared.lease(RUN, A, RAY):
                await free.wait()

        with pytest.raises(SampleError, match="an engine died"):
            async with shared.lease(RUN, A, RAY):
                first = asyncio.create_task(trial())
                await asyncio.sleep(0)
                raise SampleError("an engine died")
        second = asyncio.create_task(trial())
        for _ in range(10):
            await asyncio.sleep(0)
        assert (len(world.fleets), world.fleets[0].is_closed) == (1, False)
        free.set()
        await asyncio.gather(first, second)
        assert [fleet.is_closed for fleet in world.fleets] == [True, True]

    run(job)
