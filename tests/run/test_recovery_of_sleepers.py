"""A learner that is lost while samplers on its GPU are lost, too: it needs their memory, and they need its weights."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ObjectLostError

from rft.errors import LearnerLost, LearnError
from rft.events import Event, LearnerRestarted
from rft.run.loop_learners import TurnTaking
from rft.run.recovery import RecoveringLearner, RenewingSampler
from rft.sampling.sampler_events import SamplerReplaced
from rft.sampling.spec import EngineSpec
from rft.types import GradedGroup, Publication, StoredWeights
from tests.sampling import fake_fleets
from tests.sampling.fake_actors import FakeReference, HoldingEngine
from tests.sampling.fake_fleets import make_spec, received, rest, start

from .lost_learner_world import FakeRemote, World


class OwnedReference(FakeReference):
    """Weights that live in the learner's process."""

    def __init__(self, owner: FakeRemote, weights: Any) -> None:
        self._owner, self._weights = owner, weights

    def get(self) -> Any:
        if self._owner.is_dead:
            raise ObjectLostError("0" * 56, None, "")
        return self._weights


class Remote(FakeRemote):
    """A learner whose samplers hold references to its weights."""

    def by_reference(self, publication: Publication) -> Publication:
        reference = OwnedReference(self, publication.weights)
        return Publication(weights=StoredWeights(policy=publication.policy, num_bytes=1, reference=reference))


class Sleeper(HoldingEngine):
    """Shares its GPU with the learner: it does nothing while it sleeps."""

    def sleep(self) -> None:
        self.calls.append("sleep")

    def wake(self) -> None:
        self.calls.append("wake")


class Pair:
    """A learner and samplers after the first step."""

    def __init__(
        self, world: World, samplers: fake_fleets.World, learner: RecoveringLearner, release: threading.Event
    ) -> None:
        self.world, self.samplers, self.learner = world, samplers, learner
        self.fleet = samplers.fleet
        self.release = release
        """Set when completions may end."""

    async def learn(self) -> Publication:
        """Take a step."""
        turns = TurnTaking(self.learner, self.fleet)
        await turns.learn([self.world.make_group([0.0, 1.0], policy=self.fleet.policy)])
        return await turns.publish()

    async def load(self, publication: Publication) -> None:
        """Load the policy of a step into the samplers."""
        await RenewingSampler(sampler=self.fleet, learner=self.learner).load(publication)

    def kill_learner(self) -> None:
        self.world.remotes[-1].kill()

    def calls(self, number: int) -> list[str]:
        """The calls of the engine that was built as this number, without those of the first step."""
        calls: list[str] = self.samplers.engines.created[number].engine.calls
        return calls[3:] if number < len(self.samplers.engines._actor_options) else calls


@pytest.fixture
def paired(
    tmp_path: Path, make_group: Callable[..., GradedGroup], make_learner_spec: Callable[..., Any]
) -> Callable[..., list[Event]]:
    """`paired(job, num_actors=1)`: run `job(pair)`; return the restarts."""

    def run(job: Callable[[Pair], Coroutine[Any, Any, None]], *, num_actors: int, max_restarts: int = 5) -> list[Event]:
        world, release = World(tmp_path, make_group, make_learner_spec), threading.Event()
        events: list[Event] = []

        async def build(checkpoint: Path | None) -> Any:
            return Remote(world, world.spec(checkpoint))

        async def on(samplers: fake_fleets.World) -> None:
            learner = RecoveringLearner(
                await build(None),
                build=build,
                folder=tmp_path,
                max_restarts=max_restarts,
                emit=events.append,
                resting=samplers.fleet,
            )
            samplers.fleet.renew_with(learner.renewed)
            await learner.start()
            pair = Pair(world, samplers, learner, release)
            await pair.load(await pair.learn())
            await job(pair)

        def sleeper(spec: EngineSpec) -> Sleeper:
            return Sleeper(spec, release)

        fake_fleets.run(on, make_spec(), num_actors=num_actors, builds=[sleeper])
        return [event for event in events if isinstance(event, LearnerRestarted)]

    return run


def test_the_only_sampler_and_the_learner_are_lost_before_a_checkpoint(
    paired: Callable[..., list[Event]],
) -> None:
    """The replacement waits for the learner, which does not wait for the replacement."""

    async def job(pair: Pair) -> None:
        pair.release.set()
        pair.kill_learner()
        pair.samplers.engines.lose(pair.fleet.samplers[0], "sampler 0 is gone")
        await pair.learner.save()
        assert len(await rest(start(pair.fleet, step=2))) == 15
        assert pair.calls(1)[:3] == ["sleep", "wake", "load 1"]

    assert paired(job, num_actors=1) == [LearnerRestarted(from_step=0, redone_steps=1)]


@pytest.mark.parametrize("num_actors", [1, 2])
def test_a_replacement_that_restarts_the_learner_leaves_no_sampler_asleep(
    paired: Callable[..., list[Event]], num_actors: int
) -> None:
    """The learner is lost while it has nothing to do, so the replacement is the first to notice."""

    async def job(pair: Pair) -> None:
        stream = start(pair.fleet, step=2)
        await received(stream)
        pair.kill_learner()
        pair.samplers.engines.created[0].die()
        while not pair.fleet.is_asleep:
            await asyncio.sleep(0)
        pair.release.set()
        assert len(await rest(stream)) == 15
        assert len(await rest(start(pair.fleet, step=3))) == 15
        await pair.samplers.until(SamplerReplaced)
        if num_actors == 2:
            assert pair.calls(1)[-4:-1] == ["sleep", "wake", "load 1"]
        assert pair.calls(num_actors)[:3] == ["sleep", "wake", "load 1"]
        assert not pair.samplers.warnings

    assert paired(job, num_actors=num_actors) == [LearnerRestarted(from_step=0, redone_steps=1)]


def test_the_only_sampler_and_the_learner_are_lost_before_a_load(paired: Callable[..., list[Event]]) -> None:
    """The load waits for the replacement, which restarts the learner and then needs the loaded policy."""

    async def job(pair: Pair) -> None:
        pair.release.set()
        publication = await pair.learn()
        pair.kill_learner()
        pair.samplers.engines.lose(pair.fleet.samplers[0], "sampler 0 is gone")
        await pair.load(publication)
        assert pair.fleet.policy.version == 2
        assert len(await rest(start(pair.fleet, step=3))) == 15

    assert paired(job, num_actors=1) == [LearnerRestarted(from_step=0, redone_steps=2)]


def test_requests_do_not_wait_for_a_learner_whose_restart_fails(paired: Callable[..., list[Event]]) -> None:
    """For a reason that nobody expects."""

    async def job(pair: Pair) -> None:
        stream = start(pair.fleet, step=2)
        await received(stream)

        def fail(steps_done: int) -> None:
            raise ValueError("a bug")

        pair.world.learning = fail
        pair.kill_learner()
        pair.samplers.engines.created[0].die()
        with pytest.raises(LearnError, match="the learner cannot start again: ValueError: a bug"):
            await rest(stream)

    assert len(paired(job, num_actors=1)) == 1


def test_requests_do_not_wait_for_a_learner_that_cannot_restart(
    paired: Callable[..., list[Event]],
) -> None:
    async def job(pair: Pair) -> None:
        first = start(pair.fleet, step=2)
        await received(first)
        pair.world.deaths = [("learn", 0, "before")]  # of the next process
        pair.kill_learner()
        pair.samplers.engines.created[0].die()
        while not pair.fleet.is_asleep:
            await asyncio.sleep(0)
        second = start(pair.fleet, step=3)
        pair.release.set()
        assert len(await rest(first)) == 15
        for stream in (second, start(pair.fleet, step=4)):
            with pytest.raises(LearnerLost, match="the learner may not start again after 1 restarts"):
                await rest(stream)

    assert len(paired(job, num_actors=2, max_restarts=1)) == 1
