"""The actor's own code, in this process: calls come and go while a fake engine is stepped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest

from rft.config.samplers.fake import FakeSamplerConfig
from rft.errors import SampleError, SyncError
from rft.sampling.actor import SamplerActor
from rft.sampling.engine import Loaded, Request, SamplingOptions
from rft.sampling.fake_engine import FakeEngine
from rft.sampling.spec import EngineSpec
from rft.types import Adapter, FullWeights, Policy, Rollout

from .conftest import BASE, FAKE_SPEC

NEWER = FullWeights(policy=Policy(version=1, fingerprint="f1"), tensors=b"")
SPEC = replace(FAKE_SPEC, sampler=FakeSamplerConfig(script=["one", "two"]), canaries=((1, 2, 3),))
REQUESTS = [Request(task_id="t", index=index, prompt_ids=(1,), seed=index) for index in range(4)]
OPTIONS = SamplingOptions(temperature=1.0, max_completion_tokens=4)


async def collect(actor: SamplerActor, stream: int, policy: Policy = BASE) -> list[Rollout]:
    return [rollout async for batch in actor.sample(stream, REQUESTS, OPTIONS, policy) for rollout in batch]


def test_calls_side_by_side_get_what_is_theirs() -> None:
    async def job() -> None:
        actor = SamplerActor(SPEC)
        policy, scores = await actor.start()
        assert (policy, scores.logprobs) == (BASE, ((-1.0, -1.0),))
        one, two = await asyncio.gather(collect(actor, 1), collect(actor, 2))
        assert [rollout.text for rollout in one] == [rollout.text for rollout in two] == ["one", "two"] * 2

    asyncio.run(job())


def test_the_requests_are_taken_in_before_anything_ends() -> None:
    async def job() -> None:
        actor = SamplerActor(SPEC)
        await actor.start()
        stream = actor.sample(1, REQUESTS, OPTIONS, BASE)
        assert await anext(stream) == []
        assert await anext(stream) != []

    asyncio.run(job())


def test_completions_travel_together_but_the_last_do_not_wait() -> None:
    async def job() -> list[int]:
        actor = SamplerActor(SPEC)
        await actor.start()
        return [len(batch) async for batch in actor.sample(1, REQUESTS, OPTIONS, BASE, gather_s=3600.0)]

    taken, *journeys = asyncio.run(asyncio.wait_for(job(), 60))
    assert taken == 0
    assert sum(journeys) == len(REQUESTS)
    assert len(journeys) <= 2


def test_a_load_that_overwrites_waits_for_what_is_in_flight_and_lets_nothing_past() -> None:
    class InPlaceEngine(FakeEngine):
        loads_in_place = True

        def load(self, weights: Adapter | FullWeights, run: int = 0) -> Loaded:
            assert not self.has_unfinished
            return super().load(weights)

    async def job() -> None:
        actor = SamplerActor(SPEC, InPlaceEngine)
        await actor.start()
        older = actor.sample(1, REQUESTS, OPTIONS, BASE)
        assert await anext(older) == []
        load = asyncio.create_task(actor.load(NEWER))
        await asyncio.sleep(0)  # let it begin
        newer = asyncio.create_task(collect(actor, 2, NEWER.policy))
        too_old = asyncio.create_task(collect(actor, 3, BASE))
        assert {rollout.policy for batch in [batch async for batch in older] for rollout in batch} == {BASE}
        assert (await load).loaded.modules_matched == 1
        assert {rollout.policy for rollout in await newer} == {NEWER.policy}
        with pytest.raises(SyncError, match="asked for policy-v0-base but holds policy-v1-f1"):
            await too_old

    asyncio.run(job())


def test_an_engine_that_fails_fails_every_call_and_can_be_used_again() -> None:
    class FailingEngine(FakeEngine):
        fails = True

        def step(self) -> list[tuple[int, Rollout]]:
            if self.fails:
                self.fails = False
                raise ValueError("out of memory")
            return super().step()

    async def job() -> None:
        actor = SamplerActor(SPEC, FailingEngine)
        await actor.start()
        with pytest.raises(ValueError, match="out of memory"):
            await collect(actor, 1)
        assert len(await collect(actor, 2)) == 4

    asyncio.run(job())


def test_a_call_that_is_given_up_ends() -> None:
    class SilentEngine(FakeEngine):
        def step(self) -> list[tuple[int, Rollout]]:
            return []

    async def job() -> None:
        actor = SamplerActor(SPEC, SilentEngine)
        await actor.start()
        call = asyncio.create_task(collect(actor, 1))
        await asyncio.sleep(0)
        while not actor._engine.has_unfinished:
            await asyncio.sleep(0)
        await actor.abort(1)
        with pytest.raises(SampleError, match="aborted"):
            await call
        assert not actor._engine.has_unfinished

    asyncio.run(job())


def test_an_engine_that_cannot_be_built_says_so() -> None:
    def build(spec: EngineSpec) -> FakeEngine:
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        asyncio.run(SamplerActor(SPEC, build).start())


def test_what_several_runs_ask_of_the_base_model_alike_is_sampled_once() -> None:
    added = []

    class CountingEngine(FakeEngine):
        def add(
            self, stream: int, requests: Sequence[Request], options: SamplingOptions, policy: Policy, run: int = 0
        ) -> None:
            added.append((stream, policy, len(requests)))
            super().add(stream, requests, options, policy, run)

    async def job() -> None:
        actor = SamplerActor(replace(SPEC, num_runs=2), CountingEngine)
        await actor.start()
        one, two = await asyncio.gather(collect(actor, 1), collect(actor, 2))
        later = await collect(actor, 3)
        texts = [sorted((rollout.index, rollout.text) for rollout in of) for of in (one, two, later)]
        assert texts[0] == texts[1] == texts[2] == [(0, "one"), (1, "two"), (2, "one"), (3, "two")]
        assert added == [(1, BASE, 4), (2, BASE, 0), (3, BASE, 0)]
        await actor.load(NEWER, 1)
        await actor.load(NEWER, 2)
        for stream in (4, 5):
            async for _ in actor.sample(stream, REQUESTS, OPTIONS, NEWER.policy, stream - 3):
                pass
        assert added[3:] == [(4, NEWER.policy, 4), (5, NEWER.policy, 4)], "what is trained is each run's own"

    asyncio.run(job())


def test_a_call_that_is_given_up_leaves_what_another_waits_for() -> None:
    gate = threading.Event()

    class WaitingEngine(FakeEngine):
        def step(self) -> list[tuple[int, Rollout]]:
            return super().step() if gate.is_set() else []

    async def job() -> None:
        actor = SamplerActor(replace(SPEC, num_runs=2), WaitingEngine)
        await actor.start()
        first, second = (actor.sample(stream, REQUESTS, OPTIONS, BASE) for stream in (1, 2))
        assert await anext(first) == await anext(second) == []
        await actor.abort(1)
        gate.set()
        with pytest.raises(SampleError, match="aborted"):
            await anext(first)
        assert len([rollout async for batch in second for rollout in batch]) == 4

    asyncio.run(job())
