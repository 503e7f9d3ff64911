"""Samplers that are lost, and those that take their places, with actors in this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from rft.errors import SampleError, SamplersLost, ServerLost, SyncError
from rft.sampling import contact
from rft.sampling.engine import Loaded
from rft.sampling.engines import START_ATTEMPTS
from rft.sampling.fake_engine import FakeEngine
from rft.sampling.fleet import Fleet
from rft.sampling.losses import DuplicatesDropped, SamplerEvent, SamplerLost, SamplerReplaced
from rft.sampling.spec import EngineSpec
from rft.sampling.stream import MAX_LOSSES, RolloutStream
from rft.types import Policy, Publication, Rollout, Split, StoredWeights, Task

from .conftest import BASE, CANARIES, FAKE_SPEC
from .fake_actors import FakeEngines, FakeReference, HoldingEngine

TASKS = [Task(id=name, messages=({"role": "user", "content": name},), item={}, split=Split.TRAIN) for name in "abcde"]
SPEC = replace(FAKE_SPEC, canaries=CANARIES)


def spec(*, staleness: int = 0, num_runs: int = 1, serve: Any = "adapter", **settings: Any) -> EngineSpec:
    sampler = SPEC.sampler.model_copy(update=settings)
    return replace(SPEC, sampler=sampler, staleness=staleness, num_runs=num_runs, serve=serve)


class World:
    """Engines, and the fleet of one run."""

    def __init__(self, spec: EngineSpec, num_actors: int, builds: Sequence[Callable[[EngineSpec], Any]]) -> None:
        self.engines = FakeEngines(spec, num_actors=num_actors, builds=builds)
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


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets the engines hand over what they hold."""
    event = threading.Event()
    yield event
    event.set()


def run(
    job: Callable[[World], Coroutine[Any, Any, Any]],
    spec: EngineSpec,
    *,
    num_actors: int = 1,
    builds: Sequence[Callable[[EngineSpec], Any]] = (FakeEngine,),
) -> Any:
    async def work() -> Any:
        world = World(spec, num_actors, builds)
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
    async def job(world: World) -> list[Rollout]:
        if publication:
            await world.fleet.load(publication)
        return await rest(start(world.fleet))

    rollouts: list[Rollout] = run(job, spec())
    return rollouts


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

    rollouts = run(job, spec(), num_actors=2, builds=[partial(HoldingEngine, release=release)])
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

    assert run(job, spec(), builds=[partial(HoldingEngine, release=release, num_free=4)]) == undisturbed()


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

    rollouts = run(job, spec(), builds=[partial(HoldingEngine, release=release)])
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

    rollouts = run(job, spec(staleness=1), num_actors=2, builds=[partial(HoldingEngine, release=release)])
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
    rollouts = run(job, spec(staleness=1, serve="merged"), num_actors=2, builds=builds)
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

    assert run(job, spec(), num_actors=2, builds=[SlowLoader]) == undisturbed(published(1))


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
        assert lost.reason.startswith(f"sampler 0 was given {published(1).policy.name} after policy-v0-base: its log-probabilities")
        assert len(world.fleet.samplers) == 2
        sync = await world.fleet.load(published(2, -3.0, -1.0))
        assert (sync.metrics["sync/actors"], sync.metrics["sync/quarantined"]) == (2.0, 0.0)

    run(job, spec(), num_actors=2, builds=[LyingEngine, FakeEngine])


def test_a_policy_that_the_replacement_cannot_prove_either_ends_the_run(published: Any) -> None:
    async def job(world: World) -> None:
        name = published(1).policy.name
        with pytest.raises(SyncError, match=f"sampler 0 was given {name} after .*its replacement was given {name}: "):
            await world.fleet.load(published(1, -2.0, -1.0))
        assert world.fleet.policy == BASE
        assert len(world.engines.created) == 2

    run(job, spec(), builds=[LyingEngine])


def test_the_run_continues_without_a_replacement_that_cannot_prove_the_policy(published: Any) -> None:
    async def job(world: World) -> None:
        assert (await world.fleet.load(published(1, -2.0, -1.0))).proved
        while not world.warnings:
            await asyncio.sleep(0)
        [warning] = world.warnings
        assert "; its replacement was given policy-v1-" in warning and warning.endswith("; 1 sampler(s) continue")
        assert len(await rest(start(world.fleet))) == 15
        assert (await world.fleet.load(published(2, -3.0, -1.0))).metrics["sync/quarantined"] == 1.0

    run(job, spec(), num_actors=2, builds=[LyingEngine, FakeEngine, LyingEngine])


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

    assert run(job, spec(), num_actors=2, builds=[partial(HoldingEngine, release=release)]) == undisturbed()


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

    run(job, spec(), builds=[StuckEngine])


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

    run(job, spec(max_restarts=0), num_actors=2)


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

    run(job, spec(min_actors=2), num_actors=2, builds=[FakeEngine, FakeEngine, late(release)])


def test_a_replacement_that_cannot_be_started_ends_a_run_below_its_fewest_samplers() -> None:
    def refuse(spec: EngineSpec) -> FakeEngine:
        raise SampleError("no memory is left")

    async def job(world: World) -> None:
        world.engines.created[0].die()
        assert len(await rest(start(world.fleet))) == 15, "what is under way ends"
        with pytest.raises(SamplersLost, match=r"could not be started: .*no memory is left\n1 sampler.*min_actors=2"):
            await rest(start(world.fleet))

    run(job, spec(min_actors=2), num_actors=2, builds=[FakeEngine, FakeEngine, refuse])


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

    rollouts = run(job, spec(num_runs=2), builds=[partial(HoldingEngine, release=release)])
    assert rollouts[0] == undisturbed(published(1))
    assert {one.policy for one in rollouts[1]} == {published(2).policy}


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

    run(job, spec(num_runs=2), builds=[FakeEngine, late(building)])


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

    run(job, spec(), builds=[EchoingEngine])


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

    run(job, spec(), builds=[partial(HoldingEngine, release=release)])


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

    run(job, spec())


def test_a_server_that_is_back_is_reached_by_a_new_client(published: Any) -> None:
    class LostServer(FakeEngine):
        def step(self) -> list[tuple[int, Rollout]]:
            raise ServerLost("the server at http://127.0.0.1:8000/v1 failed: connection refused")

    async def job(world: World) -> list[Rollout]:
        await world.fleet.load(published(1, -2.0, -1.0))
        rollouts = await rest(start(world.fleet))
        assert "sampler 0 is gone: the server at http://127.0.0.1:8000/v1 failed" in world.of(SamplerLost)[0].reason
        return rollouts

    assert run(job, spec(), builds=[LostServer, FakeEngine]) == undisturbed(published(1))


@pytest.mark.parametrize("can_renew", [True, False])
def test_the_weights_of_a_replacement_may_have_died_with_the_learner(published: Any, can_renew: bool) -> None:
    references: list[FakeReference] = []

    def publication() -> Publication:
        given = published(1, -2.0, -1.0)
        references.append(FakeReference(given.weights))
        stored = StoredWeights(policy=given.policy, num_bytes=given.weights.num_bytes, reference=references[-1])
        return replace(given, weights=stored)

    async def renew(policy: Policy) -> Publication:
        assert policy == published(1).policy
        return publication()

    async def job(world: World) -> None:
        if can_renew:
            world.fleet.renew_with(renew)
        await world.fleet.load(publication())
        references[0].is_lost = True
        world.engines.created[0].die()
        if can_renew:
            assert len(await rest(start(world.fleet))) == 15
            assert len(references) == 2
        else:
            with pytest.raises(SamplersLost, match="the learner's process died .* and took its weights along"):
                await rest(start(world.fleet))

    run(job, spec())


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

    run(job, spec(), builds=[FakeEngine, late(building)])


def test_an_error_of_the_engine_is_no_loss() -> None:
    """An error that the engine raises would come back, so nothing is restarted."""

    class FailingEngine(FakeEngine):
        def step(self) -> list[tuple[int, Rollout]]:
            raise SampleError("out of memory")

    async def job(world: World) -> None:
        with pytest.raises(SampleError, match="out of memory"):
            await rest(start(world.fleet))
        assert (len(world.engines.created), world.events) == (1, [])

    run(job, spec(), builds=[FailingEngine])


def test_policies_of_ended_streams_are_not_kept(published: Any) -> None:
    async def job(world: World) -> None:
        for version in (1, 2, 3):
            await world.fleet.load(published(version, -1.0 - version, -1.0))
            await rest(start(world.fleet, step=version))
        kept: list[Policy] = list(world.fleet._roster._publications)
        assert len(kept) <= 2 and kept[-1] == published(3).policy

    run(job, spec(staleness=1))


def test_a_sampler_that_dies_while_it_starts_is_started_again() -> None:
    async def job() -> None:
        waiting = threading.Event()
        engines = FakeEngines(spec(), num_actors=2, builds=[late(waiting), FakeEngine])
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
        engines = FakeEngines(spec(), num_actors=1, builds=[late(waiting)])
        starting = asyncio.create_task(engines.start())
        while not starting.done():
            engines.created[-1].die()
            await asyncio.sleep(0)
        waiting.set()
        assert len(engines.created) == START_ATTEMPTS
        with pytest.raises(SampleError, match="a sampler could not be started: The actor died"):
            await starting

    asyncio.run(asyncio.wait_for(job(), 60))
