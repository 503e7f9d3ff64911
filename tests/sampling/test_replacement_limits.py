"""Limits of replacements: their number, their start, other runs, and the end of a run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from rft.errors import SampleError, SamplersLost, SyncError, WaitTimeout, WriteError
from rft.sampling import engines as engines_module
from rft.sampling.engine import Loaded
from rft.sampling.engines import START_ATTEMPTS, SamplerHandle
from rft.sampling.fake_engine import FakeEngine
from rft.sampling.sampler_events import SamplerEvent, SamplerLost, SamplerReplaced
from rft.sampling.spec import EngineSpec
from rft.sampling.stream import MAX_LOSSES
from rft.types import Rollout

from .fake_actors import FakeEngines, HoldingEngine
from .fake_fleets import World, late, make_spec, received, rest, run, start, undisturbed


def test_without_restarts_the_others_continue_and_the_last_one_ends_the_run() -> None:
    async def job(world: World) -> None:
        world.engines.created[0].die()
        assert len(await rest(start(world.fleet))) == 15
        while not world.warnings:
            await asyncio.sleep(0)
        refusal = "it is not replaced, since sampler.max_restarts=0 allows no further restart"
        assert world.warnings == [f"sampler 0 is gone: The actor died.; {refusal}; 1 sampler(s) continue"]
        world.engines.created[1].die()
        with pytest.raises(SamplersLost, match=r"sampler 1 is gone: (.|\n)*0 sampler\(s\) remain .*resume="):
            await rest(start(world.fleet))
        with pytest.raises(SamplersLost, match="sampler 1 is gone: "):
            await rest(start(world.fleet))

    run(job, make_spec(max_restarts=0), num_actors=2)


def test_below_the_fewest_samplers_new_requests_wait_for_a_replacement(release: threading.Event) -> None:
    async def job(world: World) -> None:
        world.engines.created[0].die()
        first = await rest(start(world.fleet))  # the second sampler repeats its share
        assert len(first) == 15
        later = start(world.fleet, step=2)
        assert later.policy is None, "its requests wait"
        release.set()
        assert len(await rest(later)) == 15
        assert len(world.fleet.samplers) == 2

    run(job, make_spec(min_actors=2), num_actors=2, builds=[FakeEngine, FakeEngine, late(release)])


def test_a_replacement_that_cannot_be_started_ends_a_run_below_its_fewest_samplers() -> None:
    def refuse(spec: EngineSpec) -> FakeEngine:
        raise SampleError("no memory is left")

    async def job(world: World) -> None:
        world.engines.created[0].die()
        assert len(await rest(start(world.fleet))) == 15, "what is under way ends"
        with pytest.raises(SamplersLost, match=r"could not be started: .*no memory is left\n1 sampler.*min_actors=2"):
            await rest(start(world.fleet))

    run(job, make_spec(min_actors=2), num_actors=2, builds=[FakeEngine, FakeEngine, refuse])


def test_two_runs_replace_a_shared_engine_once(release: threading.Event, published: Any) -> None:
    async def job(world: World) -> list[list[Rollout]]:
        other = world.join(seed=1)
        await world.fleet.load(published(1, -2.0, -1.0))
        await other.load(published(2, -3.0, -1.0))
        streams = [start(world.fleet), start(other)]
        for stream in streams:
            await received(stream)
        world.engines.created[0].die()
        await world.until(SamplerReplaced, 2)
        for stream in streams:
            await received(stream)
        assert len(world.engines.created) == 2
        calls = world.engines.created[1].engine.calls
        assert sorted(calls) == ["add 15 of 1", "add 15 of 2", "load 1", "load 2"]
        release.set()
        rollouts = [await rest(stream) for stream in streams]
        await other.leave()
        return rollouts

    rollouts = run(job, make_spec(num_runs=2), builds=[partial(HoldingEngine, release=release)])
    assert rollouts[0] == undisturbed(published(1))
    assert {one.policy for one in rollouts[1]} == {published(2).policy}


def test_a_failed_proof_of_one_run_leaves_the_samplers_to_the_others(published: Any) -> None:
    def partly_lying(spec: EngineSpec, *, versions: Sequence[int]) -> FakeEngine:
        """Build an engine that confirms these versions without loading them."""

        class PartlyLyingEngine(FakeEngine):
            def load(self, weights: Any, run: int = 0) -> Loaded:
                if weights.policy.version in versions:
                    return Loaded(policy=weights.policy, modules_matched=1)
                return super().load(weights, run)

        return PartlyLyingEngine(spec)

    async def job(world: World) -> None:
        other = world.join(seed=1)
        await other.load(published(2, -3.0, -1.0))
        await world.fleet.load(published(1, -2.0, -1.0))
        assert [sampler.name for sampler in world.fleet.samplers] == ["sampler 1"]
        assert [warning.endswith("; 1 sampler(s) continue") for warning in world.warnings] == [True]
        with pytest.raises(SyncError, match="sampler 1 was given"):
            await world.fleet.load(published(3, -4.0, -1.0))
        assert len(world.engines.created) == len(other.samplers) == 2
        assert {one.policy for one in await rest(start(other))} == {published(2).policy}
        assert not world.events
        await other.leave()

    builds = [partial(partly_lying, versions=[1]), partial(partly_lying, versions=[3])]
    run(job, make_spec(num_runs=2), num_actors=2, builds=builds)


def test_a_loss_that_cannot_be_written_ends_the_run(release: threading.Event, published: Any) -> None:
    def refuse(event: SamplerEvent) -> None:
        raise WriteError("no space is left for events.jsonl")

    async def job(world: World) -> None:
        world.fleet._roster._tell = refuse
        stream = start(world.fleet)
        await received(stream)
        world.engines.created[0].die()
        with pytest.raises(WriteError, match="no space is left"):
            await rest(stream)
        with pytest.raises(WriteError, match="no space is left"):
            await rest(start(world.fleet))
        with pytest.raises(WriteError, match="no space is left"):
            await world.fleet.load(published(1))

    run(job, make_spec(), num_actors=2, builds=[partial(HoldingEngine, release=release)])


def test_a_loss_that_one_run_cannot_write_reaches_the_other_run(release: threading.Event) -> None:
    def refuse(event: SamplerEvent) -> None:
        raise WriteError("no space is left for events.jsonl")

    async def job(world: World) -> None:
        other = world.join(seed=1)
        world.fleet._roster._tell = refuse
        streams = [start(world.fleet), start(other)]
        for stream in streams:
            await received(stream)
        world.engines.created[0].die()
        await world.until(SamplerReplaced)
        release.set()
        with pytest.raises(WriteError):
            await rest(streams[0])
        assert len(await rest(streams[1])) == 15
        await other.leave()

    run(job, make_spec(num_runs=2), builds=[partial(HoldingEngine, release=release)])


def test_a_run_that_joins_after_a_loss_waits_for_the_same_replacement() -> None:
    building = threading.Event()

    async def job(world: World) -> None:
        world.engines.created[0].die()
        first = asyncio.create_task(rest(start(world.fleet)))
        await world.until(SamplerLost)
        other = world.join(seed=1)
        second = asyncio.create_task(rest(start(other)))
        building.set()
        assert len(await first) == len(await second) == 15
        assert len(world.engines.created) == 2
        await other.leave()

    run(job, make_spec(num_runs=2), builds=[FakeEngine, late(building)])


def test_a_request_that_ends_every_engine_does_not_use_up_all_restarts(release: threading.Event) -> None:
    async def job(world: World) -> None:
        stream = start(world.fleet)
        consumer = asyncio.create_task(rest(stream))
        number = 0
        while not consumer.done():
            if len(world.engines.created) > number and any(call.is_received.is_set() for call in stream.calls):
                world.engines.created[number].die()
                number += 1
            await asyncio.sleep(0)
        with pytest.raises(SampleError, match=f"{MAX_LOSSES} samplers were lost while they sampled completion 0 of"):
            await consumer

    run(job, make_spec(), builds=[partial(HoldingEngine, release=release)])


def test_a_sampler_that_is_lost_in_its_sleep_is_replaced_at_the_next_load(published: Any) -> None:
    async def job(world: World) -> None:
        await world.fleet.sleep()
        world.engines.created[0].die()
        await world.fleet.sleep()
        await world.fleet.sleep()
        assert world.of(SamplerLost)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(world.engines.created) == 1, "the learner uses the memory"
        assert (await world.fleet.load(published(1, -2.0, -1.0))).proved
        assert len(await rest(start(world.fleet))) == 15

    run(job, make_spec())


def test_a_run_ends_while_a_replacement_starts() -> None:
    building = threading.Event()

    async def job(world: World) -> None:
        stream = start(world.fleet)
        world.engines.created[0].die()
        await world.until(SamplerLost)
        while len(world.engines.created) < 2:
            await asyncio.sleep(0)
        await world.fleet.leave()
        await world.fleet.end_streams()
        assert stream.is_over
        building.set()

    run(job, make_spec(), builds=[FakeEngine, late(building)])


def test_a_replacement_whose_start_hangs_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = engines_module._start

    async def job(world: World) -> None:
        async def hang_once(sampler: SamplerHandle) -> None:
            if sampler.actor is world.engines.created[1]:
                raise WaitTimeout("the start", 1800.0)
            await begin(sampler)

        monkeypatch.setattr(engines_module, "_start", hang_once)
        world.engines.created[0].die()
        assert len(await rest(start(world.fleet))) == 15
        assert [actor._dead.is_set() for actor in world.engines.created] == [True, True, False]

    run(job, make_spec())


def test_a_replacement_that_fails_to_join_is_ended(published: Any) -> None:
    async def job(world: World) -> None:
        await world.fleet.load(published(1, -2.0, -1.0))
        loader = world.fleet._roster._loader

        async def silent(*_: Any) -> Any:
            raise WaitTimeout("1 sampler(s) to load policy-v1", 300.0)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(loader), "load", silent)
            world.engines.lose(world.engines.samplers[0], "sampler 0 is gone")
            while not world.warnings:
                await asyncio.sleep(0)
        assert "1 sampler(s) to load policy-v1" in world.warnings[0]
        assert [actor._dead.is_set() for actor in world.engines.created] == [True, False, True]

    run(job, make_spec(), num_actors=2)


def test_an_error_of_the_engine_is_no_loss() -> None:
    """An error that the engine raises would come back, so nothing is restarted."""

    class FailingEngine(FakeEngine):
        def step(self) -> list[tuple[int, Rollout]]:
            raise SampleError("out of memory")

    async def job(world: World) -> None:
        with pytest.raises(SampleError, match="out of memory"):
            await rest(start(world.fleet))
        assert (len(world.engines.created), world.events) == (1, [])

    run(job, make_spec(), builds=[FailingEngine])


def test_policies_of_ended_streams_are_not_kept(published: Any) -> None:
    async def job(world: World) -> None:
        for version in (1, 2, 3):
            await world.fleet.load(published(version, -1.0 - version, -1.0))
            await rest(start(world.fleet, step=version))
        assert world.fleet._roster._published.policies == [published(3).policy]

    run(job, make_spec(staleness=1))


def test_a_sampler_that_dies_while_it_starts_is_started_again() -> None:
    async def job() -> None:
        waiting = threading.Event()
        engines = FakeEngines(make_spec(), num_actors=2, builds=[late(waiting), FakeEngine])
        events: list[SamplerEvent] = []
        engines._tell = events.append
        starting = asyncio.create_task(engines.start())
        await asyncio.sleep(0)
        engines.created[0].die()
        await starting
        waiting.set()
        assert [sampler.actor for sampler in engines.samplers] == [engines.created[2], engines.created[1]]
        assert [type(event) for event in events] == [SamplerLost]

    asyncio.run(asyncio.wait_for(job(), 60))


def test_a_sampler_that_dies_at_each_start_is_not_started_for_ever() -> None:
    async def job() -> None:
        waiting = threading.Event()
        engines = FakeEngines(make_spec(), num_actors=1, builds=[late(waiting)])
        starting = asyncio.create_task(engines.start())
        while not starting.done():
            engines.created[-1].die()
            await asyncio.sleep(0)
        waiting.set()
        assert len(engines.created) == START_ATTEMPTS
        with pytest.raises(SampleError, match="a sampler could not be started: The actor died"):
            await starting

    asyncio.run(asyncio.wait_for(job(), 60))
