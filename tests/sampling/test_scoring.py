"""A fleet that scores sequences: who scores them, and who takes over when a sampler is lost."""

from __future__ import annotations

import asyncio
import math
import threading
from array import array
from collections.abc import Sequence
from typing import Any

import pytest

from rft.errors import SampleError, SamplersLost
from rft.sampling.engine import TopRequest, Tops
from rft.sampling.engines import Engines
from rft.sampling.fake_engine import FakeEngine
from rft.sampling.sampler_events import SamplerLost, SamplerReplaced
from rft.types import Logprobs, TopTokens

from .fake_fleets import SPEC, World, make_spec, run

SEQUENCES = ((5, 6, 7), (8, 9))


class GatedEngine(FakeEngine):
    """Scores once `gate` is set, and counts the calls."""

    gate = threading.Event()

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.num_calls = 0

    def logprobs(self, sequences: Sequence[Sequence[int]]) -> Logprobs:
        if sequences == SEQUENCES:  # not the canaries
            self.num_calls += 1
            self.gate.wait(60)
        return super().logprobs(sequences)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    event = threading.Event()
    monkeypatch.setattr(GatedEngine, "gate", event)
    return event


async def until_called(world: World, *numbers: int) -> None:
    """Wait until the engines have received these numbers of calls."""
    while tuple(actor.engine.num_calls for actor in world.engines.created) != numbers:
        await asyncio.sleep(0)


def test_sequences_are_scored_under_the_loaded_policy(published: Any) -> None:
    async def job(world: World) -> tuple[Logprobs, Logprobs]:
        before = await world.fleet.logprobs(SEQUENCES)
        await world.fleet.load(published(1, -2.0, -1.0))
        return before, await world.fleet.logprobs(SEQUENCES)

    assert run(job, make_spec()) == (((-1.0, -1.0), (-1.0,)), ((-2.0, -2.0), (-2.0,)))


def test_the_most_probable_tokens_are_those_of_the_loaded_policy(published: Any) -> None:
    async def job(world: World) -> Tops:
        await world.fleet.load(published(1, -2.0, -1.0))
        return await world.fleet.top_logprobs(SEQUENCES, TopRequest(2, (2, 1)))

    logprobs, tops = run(job, make_spec())
    assert logprobs == ((-2.0, -2.0), (-2.0,))
    assert tops == (TopTokens(2, array("i", [0, 1]), array("f", [math.log(0.5)] * 2)),) * 2


def test_calls_are_spread_over_the_samplers(gate: threading.Event) -> None:
    async def job(world: World) -> None:
        calls = [asyncio.create_task(world.fleet.logprobs(SEQUENCES)) for _ in range(2)]
        await until_called(world, 1, 1)
        gate.set()
        await asyncio.gather(*calls)

    run(job, make_spec(), num_actors=2, builds=[GatedEngine])


def test_another_sampler_scores_what_a_lost_one_did_not(published: Any, gate: threading.Event) -> None:
    async def job(world: World) -> Logprobs:
        await world.fleet.load(published(1, -2.0, -1.0))
        call = asyncio.create_task(world.fleet.logprobs(SEQUENCES))
        await until_called(world, 1)
        world.engines.created[0].die()
        await world.until(SamplerReplaced)
        gate.set()
        assert [event.sampler for event in world.of(SamplerLost)] == ["sampler 0"]
        return await call

    assert run(job, make_spec(), builds=[GatedEngine]) == ((-2.0, -2.0), (-2.0,)), "under the same policy"


def test_without_a_replacement_nothing_is_scored() -> None:
    async def job(world: World) -> None:
        world.engines.created[0].die()
        with pytest.raises(SamplersLost, match=r"sampler\.max_restarts=0 allows no further restart"):
            await world.fleet.logprobs(SEQUENCES)

    run(job, make_spec(max_restarts=0))


def test_an_exception_of_the_engine_is_no_loss() -> None:
    class BrokenEngine(FakeEngine):
        def logprobs(self, sequences: Sequence[Sequence[int]]) -> Logprobs:
            if sequences == SEQUENCES:
                raise SampleError("token 9 is out of vocabulary")
            return super().logprobs(sequences)

    async def job(world: World) -> None:
        with pytest.raises(SampleError, match="sampler 0 failed to score: token 9 is out of vocabulary"):
            await world.fleet.logprobs(SEQUENCES)
        assert world.of(SamplerLost) == []

    run(job, make_spec(), builds=[BrokenEngine])


def test_engines_are_named_by_their_role(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engines, "_create", lambda self, place: object())
    engines = Engines(SPEC, actor_options=[{}, {}], role="teacher")
    assert [sampler.name for sampler in engines.samplers] == ["teacher 0", "teacher 1"]
