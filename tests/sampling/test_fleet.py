"""The fleet and the learner's actor on a real Ray, with engines and learners that are fakes."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray

from rft.errors import LearnerLost, LearnError, SamplersLost
from rft.learning import remote
from rft.learning.fake import FakeLearner
from rft.learning.remote import RemoteLearner
from rft.learning.spec import LearnerSpec
from rft.sampling import contact
from rft.sampling.fake_engine import FakeEngine
from rft.sampling.fleet import Fleet
from rft.sampling.spec import EngineSpec
from rft.types import Adapter, Policy, Rollout, StoredWeights, Task

pytestmark = pytest.mark.e2e

BASE = Policy(version=0, fingerprint="base")


Job = Callable[[Fleet], Coroutine[Any, Any, Any]]


async def sample(fleet: Fleet, tasks: Sequence[Task], *, purpose: str = "train", step: int = 1) -> list[Rollout]:
    stream = fleet.sample(tasks, completions_per_task=3, temperature=1.0, purpose=purpose, step=step)
    return [rollout async for rollout in stream]


@pytest.fixture
def tasks(make_task: Callable[..., Task]) -> list[Task]:
    return [make_task(f"t{number}") for number in range(5)]


@pytest.mark.parametrize("num_actors", [2, pytest.param(7, marks=pytest.mark.full)])  # with 7, two are idle
def test_every_completion_arrives_once(in_ray: Any, tasks: list[Task], num_actors: int, with_fleet: Any) -> None:
    rollouts = in_ray(with_fleet(lambda fleet: sample(fleet, tasks), num_actors=num_actors))
    assert sorted((rollout.task_id, rollout.index) for rollout in rollouts) == [
        (task.id, index) for task in tasks for index in range(3)
    ]
    assert {rollout.prompt_ids for rollout in rollouts} == {(2, 7)}
    assert {rollout.policy for rollout in rollouts} == {BASE}


@pytest.mark.full
def test_actors_that_die_end_the_sampling_where_none_may_be_restarted(
    in_ray: Any, engine: Any, tasks: list[Task], with_fleet: Any
) -> None:
    class DyingEngine(FakeEngine):
        def step(self) -> list[tuple[int, Rollout]]:
            os._exit(7)

    engine(DyingEngine)
    with pytest.raises(SamplersLost, match=r"sampler [01] is gone: (.|\n)*resume="):
        in_ray(with_fleet(lambda fleet: sample(fleet, tasks), num_actors=2, max_restarts=0))


@pytest.mark.parametrize(
    ("fault", "moment"),
    [
        (signal.SIGSTOP, "loading"),
        (signal.SIGKILL, "sampling"),
        (signal.SIGSTOP, "sampling"),
        (signal.SIGKILL, "loading"),
    ],
)
@pytest.mark.full  # tests/chaos/test_real_ray.py kills a sampler
def test_a_lost_process_changes_no_completion(
    in_ray: Any,
    engine: Any,
    tasks: list[Task],
    with_fleet: Any,
    published: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: signal.Signals,
    moment: str,
) -> None:
    monkeypatch.setattr(contact, "PULSE_S", 1.0)

    class PausingEngine(FakeEngine):
        """Waits for the fault at its moment."""

        def __init__(self, spec: EngineSpec) -> None:
            super().__init__(spec)
            (tmp_path / f"{time.monotonic_ns()}").write_text(str(os.getpid()))

        def load(self, weights: Any, run: int = 0) -> Any:
            self._pause("loading")
            return super().load(weights, run)

        def step(self) -> list[tuple[int, Rollout]]:
            self._pause("sampling")
            return super().step()

        def _pause(self, here: str) -> None:
            if here == moment:
                (tmp_path / f"pausing-{os.getpid()}").touch()
                while not (tmp_path / "fault").exists():
                    time.sleep(0.01)

    async def job(fleet: Fleet) -> list[Rollout]:
        work = asyncio.create_task(load_and_sample(fleet))
        while len(pausing := sorted(tmp_path.glob("pausing-*"))) < 2:
            await asyncio.sleep(0.01)
        os.kill(int(pausing[0].name.partition("-")[2]), fault)
        (tmp_path / "fault").touch()
        rollouts = await work
        while len(fleet.samplers) < 2:
            await asyncio.sleep(0.01)
        return rollouts

    async def load_and_sample(fleet: Fleet) -> list[Rollout]:
        await fleet.load(published(1, -2.0, -1.0))
        return sorted(await sample(fleet, tasks), key=lambda one: (one.task_id, one.index))

    undisturbed = in_ray(with_fleet(load_and_sample))
    engine(PausingEngine)
    assert in_ray(with_fleet(job, num_actors=2, stall_timeout_s=5.0)) == undisturbed
    assert len([file for file in tmp_path.iterdir() if file.name.isdigit()]) == 3, "one was started again"


def test_an_engine_that_stalls(in_ray: Any, engine: Any, tasks: list[Task], with_fleet: Any) -> None:
    class StallingEngine(FakeEngine):
        def step(self) -> list[tuple[int, Rollout]]:
            threading.Event().wait()
            return []

    engine(StallingEngine)
    with pytest.raises(SamplersLost, match=r"sampler 0 hangs: its engine has completed no step for"):
        in_ray(with_fleet(lambda fleet: sample(fleet, tasks), stall_timeout_s=0.2, max_restarts=0))


async def with_learner(job: Callable[[RemoteLearner], Coroutine[Any, Any, Any]], spec: LearnerSpec) -> Any:
    learner = RemoteLearner([spec], actor_options=[{"num_cpus": 0.1}], start_timeout_s=300)
    try:
        return await job(learner)
    finally:
        learner.kill()


@pytest.fixture
def learner_kind(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[FakeLearner]], None]:
    """`learner_kind(SomeLearner)`: what the actor of this test builds."""

    def use(kind: type[FakeLearner]) -> None:
        class Actor(remote.LearnerActor):
            def __init__(self, spec: LearnerSpec) -> None:
                self._learner = kind(spec)

        monkeypatch.setattr(remote, "LearnerActor", Actor)

    return use


def test_a_learner_in_its_own_process(in_ray: Any, tmp_path: Path, make_learner_spec: Any, make_group: Any) -> None:
    async def job(learner: RemoteLearner) -> None:
        assert await learner.start() == 0
        assert await learner.learn([make_group([1.0, 0.0])]) == {"loss": 0.0}
        await learner.save()
        published = await learner.publish()
        assert published.policy.version == 1
        await learner.close()
        with pytest.raises(LearnerLost, match="the learner is lost: its process ended: "):
            while True:  # Ray ends it in its own time
                await learner.publish()

    in_ray(with_learner(job, make_learner_spec(tmp_path)))
    resumed = make_learner_spec(tmp_path, resume_from=tmp_path / "checkpoints" / "checkpoint-1")
    assert in_ray(with_learner(lambda learner: learner.start(), resumed)) == 1


def test_weights_go_to_the_samplers_by_reference_and_only_the_newest_are_kept(
    in_ray: Any, tmp_path: Path, make_learner_spec: Any, learner_kind: Any, with_fleet: Any
) -> None:
    class CountingLearner(FakeLearner):
        def num_references(self) -> int:
            return len(ray._private.worker.global_worker.core_worker.get_all_reference_counts())

    async def references_of(learner: RemoteLearner) -> int:
        return int(await learner._ask_first("call", "a count", "num_references"))

    async def job(learner: RemoteLearner) -> None:
        async def in_fleet(fleet: Fleet) -> None:
            counts = []
            for version in range(1, 9):
                await learner.learn([])
                publication = await learner.publish()
                assert isinstance(publication.weights, StoredWeights)
                sync = await fleet.load(publication)
                assert (sync.policy, sync.metrics["sync/bytes"]) == (publication.policy, publication.weights.num_bytes)
                counts.append(await references_of(learner))
                assert publication.policy.version == version
            del publication
            while await references_of(learner) > counts[0]:  # Ray lets go of them in its own time
                pass
            weights = await learner.weights()
            assert isinstance(weights, Adapter)
            assert weights.policy == sync.policy
            assert weights.num_bytes == sync.metrics["sync/bytes"]

        await learner.start()
        await with_fleet(in_fleet, num_actors=2)

    learner_kind(CountingLearner)
    in_ray(with_learner(job, make_learner_spec(tmp_path)))


def test_a_learner_that_dies_during_a_sync_is_named(
    in_ray: Any, tmp_path: Path, make_learner_spec: Any, with_fleet: Any
) -> None:
    async def job(learner: RemoteLearner) -> None:
        async def in_fleet(fleet: Fleet) -> None:
            await learner.learn([])
            publication = await learner.publish()
            learner.kill()
            while True:  # Ray ends it in its own time
                await fleet.load(publication)

        await learner.start()
        await with_fleet(in_fleet)

    message = (
        r"the learner's process died before the samplers had loaded policy-v1-.*, and took its weights along: .*resume="
    )
    with pytest.raises(LearnerLost, match=message):
        in_ray(with_learner(job, make_learner_spec(tmp_path)))


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (ValueError("the loss is not finite"), "the learner failed: ValueError: the loss is not finite"),
        # What rft raises on purpose comes through as it was.
        (LearnError("TRL took 2 optimizer steps on one batch, not 1"), "TRL took 2 optimizer steps on one batch"),
    ],
)
def test_a_failure_of_the_learner_comes_with_its_cause(
    in_fake_ray: Any, tmp_path: Path, make_learner_spec: Any, learner_kind: Any, failure: Exception, message: str
) -> None:
    class FailingLearner(FakeLearner):
        def learn(self, groups: Sequence[Any]) -> dict[str, float]:
            raise failure

    learner_kind(FailingLearner)
    with pytest.raises(LearnError, match=message) as caught:
        in_fake_ray(with_learner(lambda learner: learner.learn([]), make_learner_spec(tmp_path)))
    assert type(caught.value) is LearnError


def test_a_learner_that_cannot_be_built(in_ray: Any, tmp_path: Path, make_learner_spec: Any, learner_kind: Any) -> None:
    class BrokenLearner(FakeLearner):
        def __init__(self, spec: LearnerSpec) -> None:
            raise LearnError("TRL refuses learner.trl: no such option")

    learner_kind(BrokenLearner)
    with pytest.raises(LearnError, match=r"TRL refuses learner.trl: no such option") as caught:
        in_ray(with_learner(lambda learner: learner.start(), make_learner_spec(tmp_path)))
    assert not isinstance(caught.value, LearnerLost)  # it would fail again


def test_a_learner_that_dies(in_ray: Any, tmp_path: Path, make_learner_spec: Any, learner_kind: Any) -> None:
    class DyingLearner(FakeLearner):
        def learn(self, groups: Sequence[Any]) -> dict[str, float]:
            os._exit(7)

    learner_kind(DyingLearner)
    with pytest.raises(LearnerLost, match="the learner is lost: its process ended: "):
        in_ray(with_learner(lambda learner: learner.learn([]), make_learner_spec(tmp_path)))


def test_a_learner_that_stalls(in_ray: Any, tmp_path: Path, make_learner_spec: Any, learner_kind: Any) -> None:
    class StallingLearner(FakeLearner):
        def learn(self, groups: Sequence[Any]) -> dict[str, float]:
            threading.Event().wait()
            return {}

    async def job(learner: RemoteLearner) -> None:
        await learner.start()
        learner._step_timeout_s = 0.2
        await learner.learn([])

    learner_kind(StallingLearner)
    with pytest.raises(LearnerLost, match=r"timed out after 0.2 s waiting for the learner's step"):
        in_ray(with_learner(job, make_learner_spec(tmp_path)))
