"""Requests of closed streams, requests that wait for a replacement, and a replacement that may not serve them."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest

from rft.errors import SyncError
from rft.sampling.engine import Scores
from rft.sampling.fake_engine import FakeEngine
from rft.sampling.sampler_events import SamplerLost, SamplerReplaced
from rft.waiting import Wait, timeouts_observed

from .fake_actors import HoldingEngine
from .fake_fleets import World, late, make_spec, received, rest, run, start


def test_completions_of_a_closed_stream_are_not_sampled_again(release: threading.Event) -> None:
    async def job(world: World) -> None:
        closed, later = start(world.fleet), start(world.fleet, step=2)
        await received(closed)
        await received(later)
        await closed.aclose()
        world.engines.created[0].die()
        await world.until(SamplerReplaced)
        await received(later)
        release.set()
        assert len(await rest(later)) == 15
        assert [lost.num_completions for lost in world.of(SamplerLost)] == [15]
        assert world.engines.created[1].engine.calls == ["add 15 of 0"]

    run(job, make_spec(), builds=[partial(HoldingEngine, release=release)])


def test_a_wait_for_a_replacement_is_no_timeout(release: threading.Event) -> None:
    """The replacement starts only after many times the deadline of a completion."""
    timeouts: list[Wait] = []

    async def observe(wait: Wait) -> None:
        timeouts.append(wait)

    async def job(world: World) -> None:
        stream = start(world.fleet)
        await received(stream)
        stream._deadline_s = 0.001
        with timeouts_observed(observe):
            world.engines.created[0].die()
            await world.until(SamplerLost)
            consumer = asyncio.create_task(rest(stream))
            await asyncio.sleep(0.02)
            stream._deadline_s = 300.0
        release.set()
        assert len(await consumer) == 15
        assert not timeouts

    run(job, make_spec(), builds=[partial(HoldingEngine, release=release), late(release)])


class ForeignEngine(FakeEngine):
    """Has another base model."""

    def score(self, sequences: Any) -> Scores:
        """Every log-probability is lower by 0.5."""
        scores = super().score(sequences)
        rows = tuple(tuple(value - 0.5 for value in row) for row in scores.logprobs)
        return Scores(logprobs=rows, last=tuple(row[-1] for row in rows[:1]), reused_tokens=0)


@pytest.mark.parametrize("is_published", [False, True])
def test_a_replacement_with_another_base_model_serves_nothing(
    release: threading.Event, published: Any, is_published: bool
) -> None:
    """Before the first sync, the lost sampler's base model is the reference; later, the learner's."""

    async def job(world: World) -> None:
        if is_published:
            await world.fleet.load(published(1, -2.0, -1.0))
        stream = start(world.fleet)
        await received(stream)
        world.engines.created[0].die()
        whose = "the learner's" if is_published else "that of the former sampler 0"
        with pytest.raises(SyncError, match=f"its base model differs from {whose} by 0.5 on average"):
            await rest(stream)
        assert world.engines.created[1]._dead.is_set()

    run(job, make_spec(), builds=[partial(HoldingEngine, release=release), ForeignEngine])
