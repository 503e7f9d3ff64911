"""Requests of closed streams, and requests that wait for a replacement."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

from rft.sampling.losses import SamplerLost, SamplerReplaced
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
