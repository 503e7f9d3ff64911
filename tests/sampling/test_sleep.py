"""A sampler that frees its memory while the learner works; a sync wakes it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from rft.config.samplers.fake import FakeSamplerConfig
from rft.errors import SyncError
from rft.sampling.actor import SamplerActor
from rft.sampling.engine import Loaded, Request, SamplingOptions, Scores
from rft.sampling.fake_engine import FakeEngine
from rft.sampling.spec import EngineSpec
from rft.sampling.vllm_engine import VllmEngine
from rft.types import Adapter, Policy, Rollout

from .conftest import BASE, FAKE_SPEC

SPEC = replace(FAKE_SPEC, sampler=FakeSamplerConfig(script=["one", "two"]), canaries=((1, 2, 3),))
REQUESTS = [Request(task_id="t", index=index, prompt_ids=(1,), seed=index) for index in range(4)]
OPTIONS = SamplingOptions(temperature=1.0, max_completion_tokens=4)
NEWER = Adapter(policy=Policy(version=1, fingerprint="f1"), config={}, tensors=b"")


class FakeSleeper(FakeEngine):
    """Records its calls, and does nothing while it sleeps."""

    def __init__(self, spec: EngineSpec) -> None:
        super().__init__(spec)
        self.calls: list[str] = []

    def _record(self, call: str) -> None:
        assert not self.calls or self.calls[-1] != "sleep" or call == "wake", f"{call} during sleep"
        self.calls.append(call)

    def sleep(self) -> None:
        assert not self.has_unfinished
        self._record("sleep")

    def wake(self) -> None:
        self._record("wake")

    def load(self, weights: Any, run: int = 0) -> Loaded:
        self._record("load")
        return super().load(weights, run)

    def score(self, sequences: Sequence[Sequence[int]]) -> Scores:
        self._record("score")
        return super().score(sequences)


def run(job: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(job, 60))


async def sample(actor: SamplerActor, policy: Policy) -> list[Rollout]:
    return [rollout async for batch in actor.sample(1, REQUESTS, OPTIONS, policy) for rollout in batch]


def test_a_sync_wakes_a_sampler_and_proves_the_policy_anew() -> None:
    async def job() -> None:
        actor = SamplerActor(SPEC, FakeSleeper)
        await actor.start()
        await actor.sleep()
        confirmation = await actor.load(NEWER)
        assert actor._engine.calls == ["score", "sleep", "wake", "load", "score"]  # type: ignore[attr-defined]
        assert confirmation.scores.logprobs == ((-2.0, -2.0),)
        assert len(await sample(actor, NEWER.policy)) == 4

    run(job())


def test_a_sleeping_sampler_takes_no_requests() -> None:
    async def job() -> None:
        actor = SamplerActor(SPEC, FakeSleeper)
        await actor.start()
        await actor.sleep()
        await actor.sleep()  # it sleeps already
        with pytest.raises(SyncError, match="this sampler sleeps until its next sync"):
            await sample(actor, BASE)

    run(job())


def test_unfinished_requests_finish_before_a_sampler_sleeps() -> None:
    async def job() -> None:
        actor = SamplerActor(SPEC, FakeSleeper)
        await actor.start()
        stream = actor.sample(1, REQUESTS, OPTIONS, BASE)
        assert await anext(stream) == []  # received
        await actor.sleep()
        assert sum([len(batch) async for batch in stream]) == 4

    run(job())


def test_vllm_does_not_sleep_under_requests() -> None:
    engine = VllmEngine.__new__(VllmEngine)
    engine._running = {"1": (1, REQUESTS[0], SimpleNamespace())}  # type: ignore[dict-item]
    with pytest.raises(Exception, match="1 requests are unfinished"):
        engine.sleep()
    calls: list[Any] = []
    engine._running = {}
    engine._engine = SimpleNamespace(sleep=lambda level: calls.append(level), wake_up=lambda: calls.append("wake"))
    engine.sleep()
    engine.wake()
    assert calls == [1, "wake"]  # level 1 keeps the weights in main memory
