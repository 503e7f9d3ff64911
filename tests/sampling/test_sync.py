"""Syncs of a fleet of fake engines: what is in flight, what is proved, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from rft.errors import SyncError
from rft.sampling.engine import Loaded, Request, SamplingOptions, Scores
from rft.sampling.fake_engine import FakeEngine
from rft.sampling.fleet import Fleet
from rft.types import Policy, Rollout, Task

from .conftest import BASE


@pytest.fixture
def tasks(make_task: Any) -> list[Task]:
    return [make_task(f"t{number}") for number in range(5)]


async def sample(fleet: Fleet, tasks: Sequence[Task]) -> list[Rollout]:
    stream = fleet.sample(tasks, completions_per_task=3, temperature=1.0, purpose="train", step=1)
    return [rollout async for rollout in stream]


def test_a_loaded_adapter_is_confirmed_and_sampled(
    in_fake_ray: Any, tasks: list[Task], with_fleet: Any, published: Any
) -> None:
    async def job(fleet: Fleet) -> list[Rollout]:
        assert fleet.policy == BASE
        sync = await fleet.load(published(1))
        assert sync.policy == published(1).policy == fleet.policy
        assert not sync.proved, "nobody said what the canaries should score"
        assert sync.metrics["sync/actors"] == 3
        assert sync.metrics["sync/bytes"] == len("tensors 1")
        assert "sync/canary_gap_mean" not in sync.metrics
        return await sample(fleet, tasks)

    rollouts = in_fake_ray(with_fleet(job, num_actors=3))
    assert {rollout.policy for rollout in rollouts} == {published(1).policy}


class WaitingEngine(FakeEngine):
    """Hands nothing over before a newer policy was loaded."""

    def step(self) -> list[tuple[int, Rollout]]:
        return super().step() if self.policies[-1] != BASE else []


@pytest.mark.parametrize("staleness", [0, 1])
def test_what_is_in_flight_keeps_its_policy(
    in_fake_ray: Any, engine: Any, tasks: list[Task], staleness: int, with_fleet: Any, published: Any
) -> None:
    async def job(fleet: Fleet) -> tuple[list[Rollout], list[Rollout]]:
        # Nobody asks for a completion before the load: the requests leave when `sample` is called.
        older = fleet.sample(tasks, completions_per_task=3, temperature=1.0, purpose="train", step=1)
        await fleet.load(published(1))
        newer = fleet.sample(tasks, completions_per_task=3, temperature=1.0, purpose="train", step=2)
        return [rollout async for rollout in newer], [rollout async for rollout in older]

    engine(WaitingEngine)
    newer, older = in_fake_ray(with_fleet(job, num_actors=2, staleness=staleness))
    assert (len(newer), {rollout.policy for rollout in newer}) == (15, {published(1).policy})
    assert (len(older), {rollout.policy for rollout in older}) == (15, {BASE})


@pytest.mark.parametrize("end", ["close", "cancel"])
def test_a_stream_given_up_is_not_sampled_further(
    in_fake_ray: Any, engine: Any, tasks: list[Task], end: str, with_fleet: Any, published: Any
) -> None:
    """With one policy held, the load would be refused while the older one has requests."""

    class StrictEngine(WaitingEngine):
        def load(self, weights: Any, run: int = 0) -> Loaded:
            if self._waiting:
                raise SyncError("requests are in flight")
            return super().load(weights)

    async def job(fleet: Fleet) -> None:
        stream = fleet.sample(tasks, completions_per_task=3, temperature=1.0, purpose="train", step=1)
        consumer = asyncio.create_task(anext(stream))  # type: ignore[arg-type]
        with pytest.raises(SyncError, match="requests are in flight"):
            await fleet.load(published(1))
        if end == "cancel":
            consumer.cancel()
            await asyncio.wait([consumer])
        else:
            await stream.aclose()
            consumer.cancel()
        await fleet.load(published(1))

    engine(StrictEngine)
    in_fake_ray(with_fleet(job, on_failed_proof="stop"))


def test_scores_that_agree_are_a_proof(in_fake_ray: Any, with_fleet: Any, published: Any) -> None:
    """A fake engine says -1 - version to every token."""

    async def job(fleet: Fleet) -> None:
        sync = await fleet.load(published(1, -2.0, -1.0))
        assert sync.proved
        expected = {
            "canary_gap_mean": 0,
            "canary_gap_max": 0,
            "base_gap_mean": 1,
            "canaries_moved": 1,
            "quarantined": 0,
        }
        assert {name: sync.metrics[f"sync/{name}"] for name in expected} == expected
        # Less than twice the tolerance of 1e-4 away from the base: agreement alone would not rule the base out.
        sync = await fleet.load(published(2, -3.00005, -1.00005))
        assert sync.metrics["sync/canary_gap_mean"] == pytest.approx(5e-5)
        sync = await fleet.load(published(0, -1.0001, -1.0))
        assert (sync.proved, sync.metrics["sync/canaries_moved"]) == (True, 0.0)

    in_fake_ray(with_fleet(job, num_actors=2))


@pytest.mark.parametrize(("reused_tokens", "is_checked"), [(0, 1.0), (None, 0.0)])
def test_where_nothing_can_be_read_back_only_scores_that_moved_are_a_proof(
    in_fake_ray: Any, engine: Any, with_fleet: Any, published: Any, reused_tokens: int | None, is_checked: float
) -> None:
    class RemoteEngine(FakeEngine):
        def load(self, weights: Any, run: int = 0) -> Loaded:
            return replace(super().load(weights, run), is_remote=True)

        def score(self, sequences: Sequence[Sequence[int]]) -> Scores:
            return replace(super().score(sequences), reused_tokens=reused_tokens)

    async def job(fleet: Fleet) -> None:
        sync = await fleet.load(published(1, -2.0, -1.0))
        assert (sync.proved, sync.metrics["sync/cache_checked"]) == (True, is_checked)
        # Within twice the tolerance of the base model: agreement does not tell the two apart.
        sync = await fleet.load(published(0, -1.0001, -1.0))
        assert (sync.proved, sync.metrics["sync/canaries_moved"]) == (False, 0.0)

    engine(RemoteEngine)
    in_fake_ray(with_fleet(job))


def test_a_load_that_fails(in_fake_ray: Any, with_fleet: Any, engine: Any, published: Any) -> None:
    class RefusingEngine(FakeEngine):
        def load(self, weights: Any, run: int = 0) -> Loaded:
            raise ValueError("rank 8 is too high")

    engine(RefusingEngine)
    name = published(1).policy.name
    with pytest.raises(SyncError, match=rf"sampler 0 was given {name} .*could not load it: .*rank 8 is too high"):
        in_fake_ray(with_fleet(lambda fleet: fleet.load(published(1)), on_failed_proof="stop"))


class DroppedSyncEngine(FakeEngine):
    """Says yes, and stays what it was."""

    def load(self, weights: Any, run: int = 0) -> Loaded:
        return Loaded(policy=weights.policy, modules_matched=1)


class StaleEngine(FakeEngine):
    """Loads the version before under the name of the new one: its bytes give it away."""

    def load(self, weights: Any, run: int = 0) -> Loaded:
        loaded = super().load(weights)
        return replace(loaded, policy=replace(loaded.policy, fingerprint="0123456789abcdef"))


class UnmatchedEngine(FakeEngine):
    """Finds no module for the adapter."""

    def load(self, weights: Any, run: int = 0) -> Loaded:
        return replace(super().load(weights), modules_matched=0)


class TwiceScaledEngine(FakeEngine):
    """Says something else than it should."""

    def score(self, sequences: Sequence[Sequence[int]]) -> Scores:
        scores = super().score(sequences)
        shift = 0.25 * self.policies[-1].version
        return replace(scores, logprobs=tuple(tuple(value - shift for value in row) for row in scores.logprobs))


class ReusedCacheEngine(FakeEngine):
    """Its prefix cache survives a sync."""

    def score(self, sequences: Sequence[Sequence[int]]) -> Scores:
        return replace(super().score(sequences), reused_tokens=32 * self.policies[-1].version)


@pytest.mark.parametrize(
    ("faulty", "why"),
    [
        (
            DroppedSyncEngine,
            "differ from the learner's by 1 on average and 1 at most .*they equal those of the base model",
        ),
        (StaleEngine, "it holds policy-v1-0123456789abcdef: the bytes that arrived are not those that the learner"),
        (UnmatchedEngine, "the model has none of its modules"),
        (TwiceScaledEngine, "differ from the learner's by 0.25 on average .*match no known policy: check .*lora_alpha"),
        (ReusedCacheEngine, "its prefix cache gave 32 tokens of an older policy to the first request of this policy"),
    ],
)
def test_a_sync_that_is_not_what_it_says(
    in_fake_ray: Any, with_fleet: Any, engine: Any, published: Any, faulty: type[FakeEngine], why: str
) -> None:
    async def job(fleet: Fleet) -> None:
        try:
            await fleet.load(published(1, -2.0, -1.0))
        finally:
            assert fleet.policy == BASE

    engine(faulty)
    with pytest.raises(
        SyncError, match=f"sampler 0 was given {published(1).policy.name} after policy-v0-base: .*{why}"
    ):
        in_fake_ray(with_fleet(job, on_failed_proof="stop"))


def test_one_that_fails_is_left_out_when_so_configured(
    in_fake_ray: Any, with_fleet: Any, engine: Any, published: Any, tasks: list[Task], tmp_path: Path
) -> None:
    lock = tmp_path / "taken"

    def one_is_faulty(spec: Any) -> FakeEngine:
        try:
            lock.mkdir()
        except FileExistsError:
            return FakeEngine(spec)
        return DroppedSyncEngine(spec)

    engine(one_is_faulty)
    warnings: list[str] = []

    async def job(fleet: Fleet) -> None:
        older = fleet.sample(tasks, completions_per_task=3, temperature=1.0, purpose="train", step=1)
        sync = await fleet.load(published(1, -2.0, -1.0))
        assert (sync.metrics["sync/actors"], sync.metrics["sync/quarantined"]) == (2.0, 1.0)
        [warning] = warnings
        assert "It is excluded; 2 sampler(s) continue" in warning
        assert len(await sample(fleet, tasks)) == 15
        assert len([rollout async for rollout in older]) == 15, "what it had begun before it finishes"
        sync = await fleet.load(published(2, -3.0, -1.0))
        assert (sync.metrics["sync/actors"], sync.metrics["sync/quarantined"], len(warnings)) == (2.0, 1.0, 1)

    in_fake_ray(with_fleet(job, num_actors=3, staleness=1, on_failed_proof="quarantine", warn=warnings.append))


def test_when_none_is_sound_the_run_ends_anyway(in_fake_ray: Any, with_fleet: Any, engine: Any, published: Any) -> None:
    engine(DroppedSyncEngine)
    with pytest.raises(SyncError, match=r"sampler 0 was given(.|\n)*sampler 1 was given"):
        in_fake_ray(
            with_fleet(lambda fleet: fleet.load(published(1, -2.0, -1.0)), num_actors=2, on_failed_proof="quarantine")
        )


@pytest.mark.e2e
def test_an_actor_that_was_started_anew_refuses(
    in_ray: Any, with_fleet: Any, published: Any, tasks: list[Task]
) -> None:
    """Ray restarts it with the base model; it is asked for the adapter."""
    restartable = {"num_cpus": 0.1, "max_restarts": 1, "max_task_retries": 1}

    async def job(fleet: Fleet) -> None:
        await fleet.load(published(1))
        actor = fleet.samplers[0].actor
        ray.kill(actor, no_restart=False)
        while (await actor.start.remote())[0] != BASE:
            pass  # the kill has not reached it yet
        await sample(fleet, tasks)

    name = published(1).policy.name
    with pytest.raises(SyncError, match=f"asked for {name} but holds policy-v0-base: .*restarted without one"):
        in_ray(with_fleet(job, actor_options=[restartable]))


def test_a_completion_of_another_policy_is_refused(
    in_fake_ray: Any, with_fleet: Any, engine: Any, published: Any, tasks: list[Task]
) -> None:
    class LyingEngine(FakeEngine):
        def add(
            self, stream: int, requests: Sequence[Request], options: SamplingOptions, policy: Policy, run: int = 0
        ) -> None:
            super().load(type("Weights", (), {"policy": BASE, "tensors": b""})())
            super().add(stream, requests, options, BASE)

    async def job(fleet: Fleet) -> None:
        await fleet.load(published(1))
        await sample(fleet, tasks)

    engine(LyingEngine)
    with pytest.raises(SyncError, match=f"a completion was sampled by policy-v0-base, not {published(1).policy.name}"):
        in_fake_ray(with_fleet(job))
