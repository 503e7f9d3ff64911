"""Engines on one GPU start one after the other, engines on different GPUs side by side."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from rft.sampling.actor import SamplerActor
from rft.sampling.engines import Engines, SamplerHandle
from rft.sampling.fake_engine import FakeEngine
from rft.sampling.spec import EngineSpec

from .conftest import FAKE_SPEC

SHARED = replace(FAKE_SPEC, place=replace(FAKE_SPEC.place, num_gpus=0.5))


class FakeMethod:
    """A method of an actor, as Ray presents it."""

    def __init__(self, call: Any) -> None:
        self.remote = call


class FakeActor:
    """An engine on a GPU, which starts when the test says so."""

    def __init__(self, number: int, gpu: str, story: list[str]) -> None:
        self._number, self._gpu, self._story = number, gpu, story
        self.may_end = asyncio.Event()
        self.gpus, self.start, self.describe = (
            FakeMethod(self._gpus),
            FakeMethod(self._start),
            FakeMethod(self._describe),
        )

    async def _gpus(self) -> tuple[str, ...]:
        return ("node", self._gpu)

    async def _start(self) -> tuple[None, str]:
        self._story.append(f"{self._number} begins")
        await self.may_end.wait()
        self._story.append(f"{self._number} ends")
        return None, f"scores {self._number}"

    async def _describe(self) -> dict[str, Any]:
        return {"num_cache_blocks": 100 + self._number}


def engines_of(actors: list[FakeActor], spec: EngineSpec) -> Engines:
    engines = Engines(spec, actor_options=[])
    engines.samplers = tuple(SamplerHandle(f"sampler {number}", actor) for number, actor in enumerate(actors))
    return engines


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (SHARED, ["0 begins", "2 begins", "2 ends", "0 ends", "1 begins", "1 ends"]),
        (FAKE_SPEC, ["0 begins", "1 begins", "2 begins", "2 ends", "0 ends", "1 ends"]),
    ],
    ids=["shared", "not shared"],
)
def test_two_engines_on_one_gpu_and_a_third_on_another(spec: EngineSpec, expected: list[str]) -> None:
    async def job() -> None:
        story: list[str] = []
        actors = [FakeActor(number, gpu, story) for number, gpu in enumerate(["a", "a", "b"])]
        engines = engines_of(actors, spec)
        starting = asyncio.create_task(engines.start())
        for number in (2, 0, 1):  # the order in which they could end
            while f"{number} begins" not in story:
                await asyncio.sleep(0)
            actors[number].may_end.set()
            while f"{number} ends" not in story:
                await asyncio.sleep(0)
        await starting
        assert story == expected
        assert [sampler.base for sampler in engines.samplers] == ["scores 0", "scores 1", "scores 2"]
        assert engines.facts == [{"num_cache_blocks": number} for number in (100, 101, 102)]

    asyncio.run(asyncio.wait_for(job(), 60))


@pytest.mark.parametrize(("spec", "built"), [(SHARED, 0), (FAKE_SPEC, 1)], ids=["shared", "not shared"])
def test_an_actor_that_shares_a_gpu_waits_for_its_start(spec: EngineSpec, built: int) -> None:
    builds = []

    def build(spec: EngineSpec) -> FakeEngine:
        builds.append(spec)
        return FakeEngine(spec)

    async def job() -> None:
        actor = SamplerActor(spec, build)
        actor._thread.submit(lambda: None).result()
        assert len(builds) == built
        await actor.start()
        assert len(builds) == 1

    asyncio.run(asyncio.wait_for(job(), 60))
