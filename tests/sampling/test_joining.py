"""Samplers that have no place when the run starts, and join once there is one."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest

from rft.errors import SampleError, SamplersLost
from rft.sampling.fake_engine import FakeEngine
from rft.sampling.sampler_events import SamplerJoined
from rft.types import Rollout

from .fake_actors import HoldingEngine
from .fake_fleets import World, make_spec, received, rest, run, start, undisturbed


def test_a_sampler_joins_a_running_fleet(release: threading.Event, published: Any) -> None:
    """It needs no restart, and proves the current policy before it serves."""

    async def job(world: World) -> list[Rollout]:
        world.fleet.admit()
        first = await world.fleet.load(published(1, -2.0, -1.0))
        assert (first.metrics["sync/actors"], first.metrics["sync/quarantined"]) == (1.0, 0.0)
        stream = start(world.fleet)
        await received(stream)
        world.late.set()
        await world.until(SamplerJoined)
        later = start(world.fleet, step=2)
        await received(later)
        assert [actor.engine.calls for actor in world.engines.created] == [
            ["load 1", "add 15 of 1", "add 9 of 1"],
            ["load 1", "add 6 of 1"],
        ]
        release.set()
        rollouts = await rest(stream)
        assert len(await rest(later)) == 15
        second = await world.fleet.load(published(2, -3.0, -1.0))
        assert (second.metrics["sync/actors"], second.metrics["sync/quarantined"]) == (2.0, 0.0)
        assert [event.sampler for event in world.events] == ["sampler 1"]
        assert world.warnings == [
            "only 1 of 2 samplers have a place (sampler.min_actors=1); each of the others joins when "
            "there is room for it"
        ]
        return rollouts

    builds = [partial(HoldingEngine, release=release)]
    assert run(job, make_spec(max_restarts=0), num_actors=2, num_late=1, builds=builds) == undisturbed(published(1))


def test_a_sampler_that_has_joined_is_replaced_like_any_other() -> None:
    async def job(world: World) -> None:
        world.fleet.admit()
        world.late.set()
        await world.until(SamplerJoined)
        for actor in world.engines.created[:2]:
            actor.die()
        assert len(await rest(start(world.fleet))) == 15
        assert [sampler.name for sampler in world.engines.samplers] == ["sampler 0", "sampler 1"]
        assert world.engines.num_started == 2

    run(job, make_spec(), num_actors=2, num_late=1)


def test_a_run_does_not_wait_for_a_sampler_without_a_place() -> None:
    async def job(world: World) -> None:
        world.fleet.admit()
        world.engines.created[0].die()
        with pytest.raises(SamplersLost, match=r"sampler 0 is gone: (.|\n)*0 sampler\(s\) remain"):
            await rest(start(world.fleet))

    run(job, make_spec(max_restarts=0), num_actors=2, num_late=1)


def test_a_sampler_does_not_join_while_the_others_sleep(published: Any) -> None:
    async def job(world: World) -> None:
        world.fleet.admit()
        await world.fleet.sleep()
        world.late.set()
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(world.engines.created) == 1, "the learner uses the memory"
        await world.fleet.load(published(1, -2.0, -1.0))
        await world.until(SamplerJoined)

    run(job, make_spec(), num_actors=2, num_late=1)


def test_runs_that_share_samplers_share_the_one_that_joins(published: Any) -> None:
    async def job(world: World) -> None:
        other = world.join(seed=1)
        for fleet in (world.fleet, other):
            fleet.admit()
        await other.load(published(1, -2.0, -1.0))
        world.late.set()
        await world.until(SamplerJoined, 2)
        assert len(world.engines.created) == len(other.samplers) == len(world.fleet.samplers) == 2
        third = world.join(seed=2)
        third.admit()
        assert (len(third.samplers), len(world.warnings)) == (2, 2)
        await other.leave()

    run(job, make_spec(num_runs=2), num_actors=2, num_late=1)


def test_a_sampler_that_cannot_start_leaves_the_others_to_continue() -> None:
    def fail(spec: Any) -> FakeEngine:
        raise SampleError("no memory is left")

    async def job(world: World) -> None:
        world.fleet.admit()
        world.late.set()
        while len(world.warnings) < 2:
            await asyncio.sleep(0)
        assert world.warnings[1].startswith("sampler 1 had no place when the run started; its replacement could not")
        assert len(await rest(start(world.fleet))) == 15

    run(job, make_spec(), num_actors=2, num_late=1, builds=[FakeEngine, fail])
