"""Replacements that need weights which died with the learner's process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from rft.errors import LearnerLost, SamplersLost
from rft.sampling.fake_engine import FakeEngine
from rft.sampling.sampler_events import SamplerReplaced
from rft.types import Policy, Publication, StoredWeights

from .fake_actors import FakeReference, HoldingEngine
from .fake_fleets import World, late, make_spec, received, rest, run, start

Renew = Callable[[Policy], Coroutine[Any, Any, Publication | None]]


class Store:
    """Publishes policies by reference, and loses the weights with the learner's process."""

    def __init__(self, published: Callable[..., Publication]) -> None:
        self._published = published
        self.references: list[FakeReference] = []

    def publish(self, version: int) -> Publication:
        """The publication of a version, whose weights exist."""
        given = self._published(version, -1.0 - version, -1.0)
        self.references.append(FakeReference(given.weights))
        reference = self.references[-1]
        return replace(given, weights=StoredWeights(policy=given.policy, num_bytes=1, reference=reference))

    def lose(self) -> None:
        """Lose all weights published so far."""
        for reference in self.references:
            reference.is_lost = True

    def keeping(self, version: int) -> Renew:
        """`Fleet.renew_with` of a learner that keeps only this version."""

        async def renew(policy: Policy) -> Publication | None:
            return self.publish(version) if policy.version == version else None

        return renew


@pytest.fixture
def store(published: Callable[..., Publication]) -> Store:
    """The publications of a learner."""
    return Store(published)


@pytest.mark.parametrize("can_renew", [True, False])
def test_the_weights_of_a_replacement_may_have_died_with_the_learner(store: Store, can_renew: bool) -> None:
    async def job(world: World) -> None:
        if can_renew:
            world.fleet.renew_with(store.keeping(1))
        await world.fleet.load(store.publish(1))
        store.lose()
        world.engines.created[0].die()
        if can_renew:
            assert len(await rest(start(world.fleet))) == 15
            assert len(store.references) == 2
        else:
            with pytest.raises(SamplersLost, match=r"the learner's process died .* and took its weights along"):
                await rest(start(world.fleet))

    run(job, make_spec())


def test_a_learner_that_keeps_only_the_newest_policy_renews_it(store: Store) -> None:
    """The open stream of version 1 has all its completions, so no sampler needs this version."""

    async def job(world: World) -> None:
        world.fleet.renew_with(store.keeping(2))
        await world.fleet.load(store.publish(1))
        older = start(world.fleet)
        await received(older)
        await world.fleet.load(store.publish(2))
        store.lose()
        while any(call.unfinished for call in older.calls):
            await asyncio.sleep(0)
        world.engines.created[0].die()
        assert {one.policy.version for one in await rest(start(world.fleet, step=2))} == {2}
        assert len(await rest(older)) == 15

    run(job, make_spec())


def test_a_replacement_joins_under_the_policy_of_a_load_that_lost_the_learner(store: Store) -> None:
    """The learner's new process no longer keeps version 1."""
    building = threading.Event()

    async def job(world: World) -> None:
        world.fleet.renew_with(store.keeping(2))
        await world.fleet.load(store.publish(1))
        world.engines.lose(world.engines.samplers[0], "sampler 0 is gone")
        publication = store.publish(2)
        store.lose()
        with pytest.raises(LearnerLost):
            await world.fleet.load(publication)
        building.set()
        await world.until(SamplerReplaced)
        assert (await world.fleet.load(store.publish(2))).metrics["sync/actors"] == 2.0
        assert world.warnings == []

    run(job, make_spec(), num_actors=2, builds=[FakeEngine, FakeEngine, late(building)])


def test_a_replacement_waits_for_the_load_of_a_policy_that_is_already_published(store: Store) -> None:
    asked: list[int] = []

    async def job(world: World) -> None:
        async def renew(policy: Policy) -> Publication | None:
            asked.append(policy.version)
            return None

        world.fleet.renew_with(renew)
        await world.fleet.load(store.publish(1))
        store.lose()
        world.engines.lose(world.engines.samplers[0], "sampler 0 is gone")
        while not asked:
            await asyncio.sleep(0)
        assert (await world.fleet.load(store.publish(2))).proved
        await world.until(SamplerReplaced)
        assert (asked, world.warnings) == ([1], [])

    run(job, make_spec(), num_actors=2)


def test_samplers_fall_asleep_while_a_replacement_waits_for_the_learner(store: Store) -> None:
    """The replacement finds only during `sleep` that the learner took the weights along."""
    building, learner_is_back = threading.Event(), asyncio.Event()

    async def job(world: World) -> None:
        async def renew(policy: Policy) -> Publication | None:
            await learner_is_back.wait()
            return store.publish(1)

        world.fleet.renew_with(renew)
        await world.fleet.load(store.publish(1))
        store.lose()
        world.engines.lose(world.engines.samplers[0], "sampler 0 is gone")
        falling_asleep = asyncio.create_task(world.fleet.sleep())
        while len(world.engines.created) < 2:
            await asyncio.sleep(0)
        building.set()
        await falling_asleep
        learner_is_back.set()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not world.of(SamplerReplaced), "the learner uses the memory"
        assert (await world.fleet.load(store.publish(2))).proved
        await world.until(SamplerReplaced)

    run(job, make_spec(), builds=[FakeEngine, late(building)])


def test_requests_wait_while_samplers_sleep(store: Store, release: threading.Event) -> None:
    """Requests under way finish before the sleep. Those of a sampler that is lost meanwhile are sampled after it."""

    async def job(world: World) -> None:
        await world.fleet.load(store.publish(1))
        first = start(world.fleet)
        await received(first)
        falling_asleep = asyncio.create_task(world.fleet.sleep())
        while not world.fleet.is_asleep:
            await asyncio.sleep(0)
        world.engines.created[0].die()
        second = start(world.fleet, step=2)
        release.set()
        await falling_asleep
        assert world.engines.created[1].engine.calls == ["load 1", "add 6 of 1"]
        await world.fleet.wake(store.publish(1))
        assert [len(await rest(stream)) for stream in (first, second)] == [15, 15]
        await world.until(SamplerReplaced)

    run(job, make_spec(), num_actors=2, builds=[partial(HoldingEngine, release=release)])
