"""Requests of closed streams, and requests that wait for a replacement."""

from __future__ import annotations

import threading
from functools import partial

from rft.sampling.losses import SamplerLost, SamplerReplaced

from .fake_actors import HoldingEngine
from .fake_fleets import World, make_spec, received, rest, run, start


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
