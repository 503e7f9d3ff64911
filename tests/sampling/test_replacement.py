"""Samplers that are lost, and what takes over their work, with actors in this process."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest

from rft.errors import ServerLost, SyncError
from rft.sampling import contact
from rft.sampling.engine import Loaded
from rft.sampling.fake_engine import FakeEngine
from rft.sampling.sampler_events import DuplicatesDropped, SamplerLost, SamplerReplaced
from rft.types import Rollout

from .conftest import BASE
from .fake_actors import HoldingEngine
from .fake_fleets import SPEC, World, make_spec, received, rest, run, start, undisturbed


def test_another_sampler_repeats_the_requests_of_one_that_died(release: threading.Event) -> None:
    async def job(world: World) -> list[Rollout]:
        stream = start(world.fleet)
        await received(stream)
        world.engines.created[0].die()
        await world.until(SamplerLost)
        release.set()
        rollouts = await rest(stream)
        await world.until(SamplerReplaced)
        assert [sampler.name for sampler in world.fleet.samplers] == ["sampler 1", "sampler 0"]
        assert [sampler.actor for sampler in world.engines.samplers] == world.engines.created[2:0:-1]
        [lost] = world.of(SamplerLost)
        assert (lost.sampler, lost.num_completions) == ("sampler 0", 9), "the tasks a, c and e"
        assert lost.reason == "sampler 0 is gone: The actor died."
        assert world.engines.created[1].engine.calls == ["add 6 of 0", "add 9 of 0"]
        return rollouts

    rollouts = run(job, make_spec(), num_actors=2, builds=[partial(HoldingEngine, release=release)])
    assert rollouts == undisturbed()


def test_completions_that_have_arrived_are_not_repeated(release: threading.Event) -> None:
    async def job(world: World) -> list[Rollout]:
        stream = start(world.fleet)
        first = [await anext(stream) for _ in range(4)]
        world.engines.created[0].die()
        await world.until(SamplerReplaced)
        await received(stream)
        assert world.of(SamplerLost)[0].num_completions == 11
        assert world.engines.created[1].engine.calls == ["add 11 of 0"]
        release.set()
        return sorted([*first, *await rest(stream)], key=lambda one: (one.task_id, one.index))

    assert run(job, make_spec(), builds=[partial(HoldingEngine, release=release, num_free=4)]) == undisturbed()


def test_a_replacement_proves_the_policy_before_it_serves(release: threading.Event, published: Any) -> None:
    async def job(world: World) -> list[Rollout]:
        await world.fleet.load(published(1, -2.0, -1.0))
        stream = start(world.fleet)
        await received(stream)
        world.engines.created[0].die()
        await world.until(SamplerReplaced)
        await received(stream)
        assert world.engines.created[1].engine.calls == ["load 1", "add 15 of 1"]
        release.set()
        return await rest(stream)

    rollouts = run(job, make_spec(), builds=[partial(HoldingEngine, release=release)])
    assert rollouts == undisturbed(published(1))


def test_a_replacement_loads_the_policies_of_open_streams_first(release: threading.Event, published: Any) -> None:
    """With staleness 1, requests for version 1 are unfinished when version 2 is loaded."""

    async def job(world: World) -> list[list[Rollout]]:
        await world.fleet.load(published(1, -2.0, -1.0))
        older = start(world.fleet)
        await world.fleet.load(published(2, -3.0, -1.0))
        newer = start(world.fleet, step=2)
        await received(newer)
        for actor in world.engines.created[:2]:
            actor.die()
        await world.until(SamplerReplaced, 2)
        release.set()
        rollouts = [await rest(older), await rest(newer)]
        calls = [actor.engine.calls for actor in world.engines.created[2:]]
        assert sorted(calls) == [["load 1", "add 15 of 1", "load 2", "add 15 of 2"], ["load 2"]]
        return rollouts

    rollouts = run(job, make_spec(staleness=1), num_actors=2, builds=[partial(HoldingEngine, release=release)])
    assert [{one.policy for one in of_stream} for of_stream in rollouts] == [
        {published(1).policy},
        {published(2).policy},
    ]


class InPlaceEngine(HoldingEngine):
    """Each policy overwrites the previous one."""

    loads_in_place = True  # type: ignore[assignment]

    def load(self, weights: Any, run: int = 0) -> Any:
        assert not self._waiting
        self._held.clear()
        return super().load(weights, run)


def test_a_policy_in_place_is_served_to_its_end_before_the_next(release: threading.Event, published: Any) -> None:
    """The second sampler has finished its share of version 1 and serves version 2 when the first one dies."""
    free = threading.Event()
    free.set()

    async def job(world: World) -> list[Rollout]:
        await world.fleet.load(published(1, -2.0, -1.0))
        stream = start(world.fleet)
        loading = asyncio.create_task(world.fleet.load(published(2, -3.0, -1.0)))
        while "load 2" not in world.engines.created[1].engine.calls:
            await asyncio.sleep(0)
        world.engines.created[0].die()
        while "add 9 of 1" not in (world.engines.created[2:] and world.engines.created[2].engine.calls):
            await asyncio.sleep(0)
        release.set()
        rollouts = await rest(stream)
        await loading
        await world.until(SamplerReplaced)
        assert world.engines.created[2].engine.calls == ["load 1", "add 9 of 1", "load 2"]
        assert world.engines.created[1].engine.calls == ["load 1", "add 6 of 1", "load 2"]
        return rollouts

    builds = [partial(InPlaceEngine, release=event) for event in (release, free, release)]
    rollouts = run(job, make_spec(staleness=1, serve="merged"), num_actors=2, builds=builds)
    assert rollouts == undisturbed(published(1))


def test_a_sampler_that_dies_during_a_load(published: Any) -> None:
    loading = threading.Event()

    class SlowLoader(FakeEngine):
        def load(self, weights: Any, run: int = 0) -> Loaded:
            loading.wait(30)
            return super().load(weights, run)

    async def job(world: World) -> list[Rollout]:
        sync = asyncio.create_task(world.fleet.load(published(1, -2.0, -1.0)))
        while not world.engines.created[0].actor._num_waiting:
            await asyncio.sleep(0)
        world.engines.created[0].die()
        await asyncio.sleep(0)
        loading.set()
        assert (await sync).proved
        await world.until(SamplerReplaced)
        assert world.of(SamplerLost)[0].num_completions == 0
        assert len(world.fleet.samplers) == 2
        return await rest(start(world.fleet))

    assert run(job, make_spec(), num_actors=2, builds=[SlowLoader]) == undisturbed(published(1))


class LyingEngine(FakeEngine):
    """Confirms a policy that it has not loaded."""

    def load(self, weights: Any, run: int = 0) -> Loaded:
        return Loaded(policy=weights.policy, modules_matched=1)


def test_a_sampler_that_fails_the_proof_is_replaced(published: Any) -> None:
    async def job(world: World) -> None:
        sync = await world.fleet.load(published(1, -2.0, -1.0))
        assert sync.proved
        await world.until(SamplerReplaced)
        [lost] = world.of(SamplerLost)
        assert lost.reason.startswith(
            f"sampler 0 was given {published(1).policy.name} after policy-v0-base: its log-probabilities"
        )
        assert len(world.fleet.samplers) == 2
        sync = await world.fleet.load(published(2, -3.0, -1.0))
        assert (sync.metrics["sync/actors"], sync.metrics["sync/quarantined"]) == (2.0, 0.0)

    run(job, make_spec(), num_actors=2, builds=[LyingEngine, FakeEngine])


def test_a_policy_that_the_replacement_cannot_prove_either_ends_the_run(published: Any) -> None:
    async def job(world: World) -> None:
        name = published(1).policy.name
        with pytest.raises(SyncError, match=f"sampler 0 was given {name} after .*its replacement was given {name}: "):
            await world.fleet.load(published(1, -2.0, -1.0))
        assert world.fleet.policy == BASE
        assert len(world.engines.created) == 2

    run(job, make_spec(), builds=[LyingEngine])


def test_the_run_continues_without_a_replacement_that_cannot_prove_the_policy(published: Any) -> None:
    async def job(world: World) -> None:
        assert (await world.fleet.load(published(1, -2.0, -1.0))).proved
        while not world.warnings:
            await asyncio.sleep(0)
        [warning] = world.warnings
        assert "; its replacement was given policy-v1-" in warning and warning.endswith("; 1 sampler(s) continue")
        assert len(await rest(start(world.fleet))) == 15
        assert (await world.fleet.load(published(2, -3.0, -1.0))).metrics["sync/quarantined"] == 1.0

    run(job, make_spec(), num_actors=2, builds=[LyingEngine, FakeEngine, LyingEngine])


def test_a_sampler_that_is_silent_and_gives_no_sign_of_life(
    release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact, "PULSE_S", 0.01)

    async def job(world: World) -> list[Rollout]:
        stream = start(world.fleet)
        await received(stream)
        world.engines.created[0].is_frozen = True
        [call] = [call for call in stream.calls if call.sampler.name == "sampler 0"]
        call.heard_s -= SPEC.sampler.stall_timeout_s
        consumer = asyncio.create_task(rest(stream))
        await world.until(SamplerLost)
        release.set()
        assert "sampler 0 hangs: no message for 300 s, and no sign of life within 0.01 s" in world.events[0].reason  # type: ignore[union-attr]
        return await consumer

    assert run(job, make_spec(), num_actors=2, builds=[partial(HoldingEngine, release=release)]) == undisturbed()


def test_an_engine_that_makes_no_step() -> None:
    stepping, stuck = threading.Event(), threading.Event()

    class StuckEngine(FakeEngine):
        def step(self) -> list[tuple[int, Rollout]]:
            stepping.set()
            stuck.wait(60)
            return super().step()

    async def job(world: World) -> None:
        stream = start(world.fleet)
        while not stepping.is_set():
            await asyncio.sleep(0)
        [sampler] = world.fleet.samplers
        assert await world.fleet._contact.is_alive(sampler), "its step may still end"
        world.engines.created[0].actor._progress_s -= SPEC.sampler.stall_timeout_s
        assert not await world.fleet._contact.is_alive(sampler)
        assert world.of(SamplerLost)[0].reason.startswith("sampler 0 hangs: its engine has completed no step for 30")
        stuck.set()
        assert len(await rest(stream)) == 15

    run(job, make_spec(), builds=[StuckEngine])


def test_completions_that_arrive_twice_are_dropped_and_counted() -> None:
    class EchoingEngine(FakeEngine):
        def step(self) -> list[tuple[int, Rollout]]:
            ended = super().step()
            return [*ended, *ended] if ended and ended[0][1].task_id == "a" else ended

    async def job(world: World) -> None:
        stream = start(world.fleet)
        await received(stream)
        [call] = stream.calls
        # The actor ends a call after as many completions as requests, so three of the last task never leave it.
        rollouts = [await anext(stream) for _ in range(12)]
        assert len({(one.task_id, one.index) for one in rollouts}) == 12
        assert world.of(DuplicatesDropped) and sum(event.num_completions for event in world.of(DuplicatesDropped)) == 3
        assert call.unfinished

    run(job, make_spec(), builds=[EchoingEngine])


def test_a_server_that_is_back_is_reached_by_a_new_client(published: Any) -> None:
    class LostServer(FakeEngine):
        def step(self) -> list[tuple[int, Rollout]]:
            raise ServerLost("the server at http://127.0.0.1:8000/v1 failed: connection refused")

    async def job(world: World) -> list[Rollout]:
        await world.fleet.load(published(1, -2.0, -1.0))
        rollouts = await rest(start(world.fleet))
        assert "sampler 0 is gone: the server at http://127.0.0.1:8000/v1 failed" in world.of(SamplerLost)[0].reason
        return rollouts

    assert run(job, make_spec(), builds=[LostServer, FakeEngine]) == undisturbed(published(1))
