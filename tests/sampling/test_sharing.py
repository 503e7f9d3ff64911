"""Several runs on one engine and on one fleet: policies and ends of their own."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import Any

import pytest

from rft.errors import SyncError
from rft.sampling.engine import Engine, Request, SamplingOptions
from rft.sampling.fake_engine import FakeEngine
from rft.sampling.fleet import Fleet
from rft.types import Adapter, Policy, Split, Task

from .conftest import BASE, FAKE_SPEC, of_run

SPEC = replace(FAKE_SPEC, num_runs=2)
OPTIONS = SamplingOptions(temperature=1.0, max_completion_tokens=9)
TASKS = [Task(id=name, messages=({"role": "user", "content": name},), item={}, split=Split.TRAIN) for name in "abc"]


def adapter(name: str) -> Adapter:
    policy = Policy(version=int(name[1:]), fingerprint=hashlib.sha256(name.encode()).hexdigest()[:16])
    return Adapter(policy=policy, config={}, tensors=name.encode())


def ask(engine: Engine, policy: Policy, run: int) -> None:
    engine.add(run, [Request(task_id="t", index=0, prompt_ids=(1, 2), seed=3)], OPTIONS, policy, run)


def test_one_runs_loads_take_nothing_from_another() -> None:
    engine = FakeEngine(SPEC)
    slow = adapter("b1")
    engine.load(slow, 2)
    for version in range(1, 5):
        engine.load(adapter(f"a{version}"), 1)
    assert set(engine.policies) == {BASE, slow.policy, adapter("a4").policy}
    ask(engine, slow.policy, 2)
    ask(engine, BASE, 1)
    ask(engine, adapter("a4").policy, 1)


def test_a_run_cannot_be_served_anothers_policy() -> None:
    engine = FakeEngine(SPEC)
    engine.load(adapter("a1"), 1)
    with pytest.raises(SyncError, match="but holds"):
        ask(engine, adapter("a1").policy, 2)


def test_what_ended_is_forgotten_and_the_base_stays() -> None:
    engine = FakeEngine(SPEC)
    engine.load(adapter("a1"), 1)
    engine.load(adapter("b1"), 2)
    engine.forget(1)
    assert set(engine.policies) == {BASE, adapter("b1").policy}
    with pytest.raises(SyncError):
        ask(engine, adapter("a1").policy, 1)
    ask(engine, BASE, 3)


def test_the_same_policy_of_two_runs_ends_once_for_each() -> None:
    engine = FakeEngine(SPEC)
    same = adapter("a1")
    engine.load(same, 1)
    engine.load(same, 2)
    engine.forget(1)
    ask(engine, same.policy, 2)


def test_a_run_with_many_requests_does_not_keep_another_waiting() -> None:
    engine = FakeEngine(SPEC)
    many = [Request(task_id="t", index=index, prompt_ids=(1, 2), seed=index) for index in range(1000)]
    engine.add(1, many, OPTIONS, BASE, 1)
    assert [engine.step()[0][0] for _ in range(10)] == [1] * 10
    engine.add(2, many[:3], OPTIONS, BASE, 2)
    # What the second asks for comes before what is left of the first, whose turns are up.
    assert [engine.step()[0][0] for _ in range(6)] == [2, 2, 2, 1, 1, 1]


def test_runs_that_ask_at_once_are_served_in_turn() -> None:
    engine = FakeEngine(SPEC)
    many = [Request(task_id="t", index=index, prompt_ids=(1, 2), seed=index) for index in range(1000)]
    engine.add(1, many, OPTIONS, BASE, 1)
    engine.add(2, many[:3], OPTIONS, BASE, 2)
    assert [engine.step()[0][0] for _ in range(8)] == [1, 2, 1, 2, 1, 2, 1, 1]


def test_an_engine_of_one_run_drops_the_base_as_before() -> None:
    engine = FakeEngine(replace(SPEC, num_runs=1))
    engine.load(adapter("a1"))
    assert engine.policies == (adapter("a1").policy,)


def joined(fleet: Fleet, seed: int) -> Fleet:
    return of_run(fleet._engines, seed=seed)


async def sampled(fleet: Fleet) -> tuple[set[Policy], list[str]]:
    """The policies that sampled, and what they said."""
    stream = fleet.sample(TASKS, completions_per_task=3, temperature=1.0, purpose="train", step=1)
    rollouts = [rollout async for rollout in stream]
    ordered = sorted(rollouts, key=lambda one: (one.task_id, one.index))
    return {one.policy for one in rollouts}, [one.text for one in ordered]


def test_two_runs_of_a_fleet(in_fake_ray: Any, with_fleet: Any, published: Any) -> None:
    """Each samples under its own newest policy, whatever the other loads; and begins with the base model."""

    async def job(fleet: Fleet) -> None:
        first, second = joined(fleet, 0), joined(fleet, 1)
        alone = await sampled(fleet)
        assert await sampled(first) == alone, "the same seed, the same completions"
        assert (await sampled(second))[1] != alone[1]
        await first.load(published(1))
        await first.load(published(2))
        assert (await sampled(first))[0] == {published(2).policy}
        assert (await sampled(second))[0] == {BASE}
        await second.load(published(1))
        await first.leave()
        assert (await sampled(second))[0] == {published(1).policy}
        third = joined(fleet, 2)
        assert (third.policy, (await sampled(third))[0]) == (BASE, {BASE})

    in_fake_ray(with_fleet(job, num_actors=2, num_runs=3))


def test_a_run_whose_proof_fails_leaves_the_others_sound(in_fake_ray: Any, with_fleet: Any, published: Any) -> None:
    async def job(fleet: Fleet) -> None:
        first, second = joined(fleet, 0), joined(fleet, 1)
        with pytest.raises(SyncError, match="differ from the learner's by"):
            await first.load(published(1, -5.0, -1.0))  # the engine says -2
        sync = await second.load(published(1, -2.0, -1.0))
        assert (sync.proved, (await sampled(second))[0]) == (True, {published(1).policy})
        assert (first.policy, (await sampled(first))[0]) == (BASE, {BASE})

    in_fake_ray(with_fleet(job, num_runs=2, on_failed_proof="stop"))


def test_a_run_that_is_given_up_leaves_the_others_sound(in_fake_ray: Any, with_fleet: Any) -> None:
    async def job(fleet: Fleet) -> None:
        alone = await sampled(fleet)
        first, second = joined(fleet, 1), joined(fleet, 0)
        given_up = first.sample(TASKS, completions_per_task=100, temperature=1.0, purpose="train", step=1)
        going_on = asyncio.create_task(sampled(second))
        await anext(given_up)
        await first.leave()
        assert await going_on == alone

    in_fake_ray(with_fleet(job, num_runs=2))
