"""A learner whose process is lost at every moment of a run: the run ends as if nothing had happened."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors.numpy

from rft.errors import LearnError, LearnerLost
from rft.events import Emit, Event, LearnerRestarted, Notice, Warned
from rft.learning.fake import FakeLearner
from rft.learning.spec import LearnerSpec
from rft.run.parts import Parts
from rft.run.recovery import RecoveringLearner
from rft.run.training import Training
from rft.run_folder.recorder import Recorder, read_metrics
from rft.types import Adapter, FullWeights, GradedGroup, Policy, Publication, StoredWeights, Sync, Task

STEPS = "loop.steps=5"
"""With a checkpoint after every second step."""
LOST = "the learner is lost: its process ended"
NAMES = ("learner_restarts", "redone_steps")


class ChainLearner(FakeLearner):
    """A fake learner whose weights are a hash of everything that it has learned from, in order."""

    def __init__(self, spec: LearnerSpec, salt: str = "") -> None:
        checkpoint = spec.resume_from
        self.state = (checkpoint / "state").read_text() if checkpoint else ""
        self.salt = salt
        super().__init__(spec)

    def learn(self, groups: Sequence[GradedGroup]) -> dict[str, float]:
        metrics = super().learn(groups)
        rows = [
            (rollout.prompt_ids, rollout.completion_ids, np.array(rollout.logprobs, np.float32).tobytes(), rollout.stop)
            for group in groups
            for rollout in group.rollouts
        ]
        content = repr((self.state, self.salt, rows, [group.rewards for group in groups]))
        self.state = hashlib.sha256(content.encode()).hexdigest()
        return metrics

    def save(self) -> None:
        super().save()
        checkpoint = self._spec.run_folder / "checkpoints" / f"checkpoint-{self.steps_done}"
        (checkpoint / "state").write_text(self.state)

    def _publication(self) -> Publication:
        tensors = safetensors.numpy.save({"state": np.array(list(self.state.encode()), dtype=np.uint8)})
        policy = Policy(version=self.steps_done, fingerprint=hashlib.sha256(tensors).hexdigest()[:16])
        return Publication(weights=Adapter(policy=policy, config={}, tensors=tensors))


class FakeRemote:
    """Stands for `RemoteLearner`. It dies in the calls that `world.deaths` lists; a dead one answers no call."""

    def __init__(self, world: World, checkpoint: Path | None) -> None:
        self.world = world
        self.learner = ChainLearner(world.spec(checkpoint), salt=world.salt if world.remotes else "")
        self.is_dead = False
        world.remotes.append(self)

    def meet(self, call: str, when: str = "before") -> None:
        deaths, moment = self.world.deaths, (call, self.learner.steps_done, when)
        if deaths and deaths[0] == moment:
            del deaths[0]
            self.is_dead = True
        if self.is_dead:
            raise LearnerLost(LOST)

    def call(self, name: str, *arguments: Any) -> Any:
        self.meet(name)
        answer = getattr(self.learner, name)(*arguments)
        self.meet(name, "after")
        return answer

    async def start(self) -> int:
        self.meet("start")
        return self.learner.steps_done

    async def learn(self, groups: Sequence[GradedGroup]) -> dict[str, float]:
        if self.world.error is not None:
            raise self.world.error
        await asyncio.sleep(0)
        metrics: dict[str, float] = self.call("learn", groups)
        return metrics

    async def publish(self) -> Publication:
        return self.by_reference(self.call("publish"))

    async def history(self) -> list[Publication]:
        return list(map(self.by_reference, self.call("history")))

    async def weights(self) -> Adapter | FullWeights | StoredWeights:
        self.meet("weights")
        return self.learner.publish().weights

    async def release_memory(self) -> None:
        self.call("release_memory")

    async def save(self) -> None:
        if self.world.deaths[:1] == [("save", self.learner.steps_done, "half")]:
            (self.world.folder / "checkpoints" / f"checkpoint-{self.learner.steps_done}").mkdir(parents=True)
        self.meet("save", "half")
        self.call("save")

    async def close(self) -> None:
        self.call("close")

    def kill(self) -> None:
        self.is_dead = True

    def by_reference(self, publication: Publication) -> Publication:
        stored = StoredWeights(policy=publication.policy, num_bytes=1, reference=self)
        return Publication(weights=stored)


class Requests(NamedTuple):
    """The stream of a batch, with the policy that samples it."""

    policy: Policy
    step: int


class World:
    """The parts of a run. Like weights in an object store, those of a publication disappear with their learner."""

    def __init__(self, folder: Path, make_group: Callable[..., GradedGroup], make_spec: Callable[..., Any]) -> None:
        self.folder = folder
        self.make_group = make_group
        self.make_spec = make_spec
        self.policy = Policy(version=0, fingerprint="base")
        self.remotes: list[FakeRemote] = []
        self.deaths: list[tuple[str, int, str]] = []
        self.error: Exception | None = None
        self.salt = ""
        self.max_restarts = 5
        self.staleness = 0
        self.checkpoint: Path | None = None
        self.step = 0
        self.weights: Any = None

    def spec(self, checkpoint: Path | None) -> LearnerSpec:
        spec: LearnerSpec = self.make_spec(self.folder, staleness=self.staleness, resume_from=checkpoint)
        return spec

    def sample(self, tasks: Sequence[Task], *, step: int, **_: Any) -> Requests:
        return Requests(self.policy, step)

    async def grade(self, tasks: Sequence[Task], rollouts: Requests, *, rollouts_per_task: int) -> list[GradedGroup]:
        rewards = [float(index % 2) for index in range(rollouts_per_task)]
        sampled = {"policy": rollouts.policy, "completion_ids": (7, 10 + rollouts.step), "logprobs": (-0.1, -1 / 3)}
        return [self.make_group(rewards, task.id, **sampled) for task in tasks]

    async def load(self, publication: Publication) -> Sync:
        stored = publication.weights
        assert isinstance(stored, StoredWeights)
        if self.deaths[:1] == [("load", publication.policy.version, "before")]:
            del self.deaths[0]
            stored.reference.kill()
        if stored.reference.is_dead:
            raise LearnerLost("the learner's process died before the samplers had loaded the policy")
        self.policy = publication.policy
        return Sync(policy=self.policy, proved=True, metrics={})

    def recovering(self, emit: Emit, **options: Any) -> RecoveringLearner:
        async def build(checkpoint: Path | None) -> FakeRemote:
            return FakeRemote(self, checkpoint)

        return RecoveringLearner(
            FakeRemote(self, self.checkpoint),  # type: ignore[arg-type]
            build=build,  # type: ignore[arg-type]
            folder=self.folder,
            max_restarts=self.max_restarts,
            emit=emit,
            **options,
        )

    @asynccontextmanager
    async def open(self, emit: Emit) -> AsyncIterator[Parts[Any]]:
        learner = self.recovering(emit)
        await learner.start()
        yield Parts(self, self, learner)  # type: ignore[arg-type]
        await learner.close()

    @property
    def policies(self) -> list[str]:
        """Fingerprint of the policy after each step."""
        return [line["policy"]["fingerprint"] for line in read_metrics(self.folder)]

    @property
    def counts(self) -> tuple[int, int]:
        """Restarts and steps taken again, from the summary."""
        recovery = json.loads((self.folder / "summary.json").read_text())["recovery"]
        return tuple(recovery[name] for name in NAMES)  # type: ignore[return-value]

    @property
    def counts_of_steps(self) -> tuple[int, int]:
        """Restarts and steps taken again, from the metrics."""
        lines = [line["metrics"] for line in read_metrics(self.folder)[1:]]
        return tuple(sum(line[f"recovery/{name}"] for line in lines) for name in NAMES)  # type: ignore[return-value]

    @property
    def shards(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "tokens").iterdir())


@pytest.fixture
def parts(tmp_path: Path, make_group: Callable[..., GradedGroup], make_learner_spec: Callable[..., Any]) -> World:
    """The parts of `training`."""
    return World(tmp_path / "run", make_group, make_learner_spec)


@pytest.fixture
def undisturbed(training: Callable[..., Training], parts: World, tmp_path: Path) -> Callable[..., list[str]]:
    """`undisturbed("loop.staleness=1")`: the policies of a run that nothing disturbs; its folder is gone."""

    def run(*words: str) -> list[str]:
        asyncio.run(training(STEPS, *words).train())
        policies = parts.policies
        assert (parts.counts, len(set(policies))) == ((0, 0), 6)
        parts.folder.rename(tmp_path / "undisturbed")
        parts.remotes.clear()
        parts.policy = Policy(version=0, fingerprint="base")
        return policies

    return run


MOMENTS = [
    (("start", 0, "before"), (1, 0)),
    (("learn", 0, "before"), (1, 0)),
    (("learn", 1, "after"), (1, 0)),
    (("learn", 1, "before"), (1, 1)),  # from the base model
    (("learn", 2, "before"), (1, 0)),  # from the checkpoint of step 2
    (("learn", 3, "before"), (1, 1)),
    (("publish", 1, "before"), (1, 1)),
    (("publish", 4, "before"), (1, 2)),
    (("publish", 4, "after"), (1, 2)),
    (("load", 1, "before"), (1, 1)),
    (("load", 4, "before"), (1, 2)),
    (("save", 2, "before"), (1, 2)),
    (("save", 4, "half"), (1, 2)),
    (("save", 4, "after"), (1, 0)),  # the checkpoint is complete, although the learner did not say so
    (("save", 5, "half"), (1, 1)),
    (("weights", 5, "before"), (1, 0)),
    (("close", 5, "before"), (0, 0)),
]


@pytest.mark.parametrize(("death", "counts"), MOMENTS, ids=lambda value: "-".join(map(str, value)))
def test_a_loss_changes_nothing(
    training: Callable[..., Training],
    parts: World,
    undisturbed: Callable[..., list[str]],
    death: tuple[str, int, str],
    counts: tuple[int, int],
) -> None:
    expected = undisturbed()
    parts.deaths = [death]
    assert asyncio.run(training(STEPS).train()) == 0
    assert parts.deaths == []
    assert parts.policies == expected
    assert parts.counts == counts
    # The oldest checkpoint is that of step 2.
    assert parts.shards == [f"step-00000{step}.safetensors" for step in (3, 4, 5)]
    # The summary also counts restarts after the last step, which no line of metrics can contain.
    assert parts.counts_of_steps == ((0, 0) if death[1] == 5 else counts)


@pytest.mark.parametrize("death", [("learn", 3, "before"), ("load", 4, "before"), ("save", 4, "half")], ids=str)
def test_batches_in_flight_stay_when_samplers_run_ahead(
    training: Callable[..., Training], parts: World, undisturbed: Callable[..., list[str]], death: tuple[str, int, str]
) -> None:
    parts.staleness = 2
    expected = undisturbed("loop.staleness=2")
    parts.deaths = [death]
    assert asyncio.run(training(STEPS, "loop.staleness=2").train()) == 0
    assert (parts.deaths, parts.policies) == ([], expected)
    # The checkpoint keeps the policies of the batches in flight, and the learner accepts their rollouts.
    assert parts.counts[0] == 1


def test_a_resumed_run_recovers_before_its_first_step(
    training: Callable[..., Training], parts: World, undisturbed: Callable[..., list[str]], tmp_path: Path
) -> None:
    parts.staleness = 1
    expected = undisturbed("loop.staleness=1")
    (tmp_path / "undisturbed").rename(parts.folder)
    (parts.folder / "checkpoints" / "checkpoint-5" / "complete.json").unlink()
    parts.checkpoint = parts.folder / "checkpoints" / "checkpoint-4"
    parts.deaths = [("start", 4, "before"), ("history", 4, "before"), ("load", 3, "before"), ("learn", 4, "before")]
    recorder = Recorder.resume(parts.folder, last_step=4)
    assert asyncio.run(training(STEPS, "loop.staleness=1", last_step=4, recorder=recorder).train()) == 0
    assert (parts.deaths, parts.policies, parts.counts) == ([], expected, (4, 0))


def test_a_learner_that_is_lost_while_it_recovers(
    training: Callable[..., Training], parts: World, undisturbed: Callable[..., list[str]]
) -> None:
    expected = undisturbed()
    parts.deaths = [("learn", 3, "before"), ("start", 2, "before"), ("publish", 3, "before"), ("learn", 3, "before")]
    assert asyncio.run(training(STEPS).train()) == 0
    assert (parts.deaths, parts.policies) == ([], expected)
    assert parts.counts == (4, 4)  # each restart from step 2 takes step 3 again, or tries to


@pytest.mark.parametrize(
    ("max_restarts", "message"),
    [
        (0, LOST),
        (2, f"{LOST}. The learner may not start again: 2 restarts, as many as learner.max_restarts allows"),
    ],
)
def test_the_number_of_restarts_is_bounded(
    training: Callable[..., Training], parts: World, max_restarts: int, message: str
) -> None:
    parts.max_restarts = max_restarts
    parts.deaths = [("learn", step, "before") for step in (0, 1, 2)]
    with pytest.raises(LearnerLost) as caught:
        asyncio.run(training(STEPS).train())
    assert str(caught.value) == message
    assert parts.counts[0] == max_restarts
    assert all(remote.is_dead for remote in parts.remotes)


@pytest.mark.parametrize("error", [LearnError("the loss is not finite"), ValueError("a bug")], ids=repr)
def test_an_error_that_would_come_back_ends_the_run(
    training: Callable[..., Training], parts: World, error: Exception
) -> None:
    parts.error = error
    with pytest.raises(type(error), match=str(error)):
        asyncio.run(training(STEPS).train())
    assert parts.counts == (0, 0)


def test_a_step_that_leads_to_other_weights_ends_the_run(training: Callable[..., Training], parts: World) -> None:
    parts.salt = "another processor"
    parts.deaths = [("learn", 3, "before")]
    with pytest.raises(LearnError, match=r"^step 3 led to other weights .*fingerprint \w{16}, not \w{16}\. .*resume="):
        asyncio.run(training(STEPS).train())


def test_a_damaged_batch_ends_the_run(training: Callable[..., Training], parts: World) -> None:
    class Damaging(FakeRemote):
        async def learn(self, groups: Sequence[GradedGroup]) -> dict[str, float]:
            if self.learner.steps_done == 3:
                path = parts.folder / "tokens" / "step-000003.safetensors"
                path.write_bytes(path.read_bytes()[:-1] + b"?")
            return await super().learn(groups)

    parts.deaths = [("learn", 3, "before")]
    run = training(STEPS)

    @asynccontextmanager
    async def open_parts(emit: Emit) -> AsyncIterator[Parts[Any]]:
        learner = parts.recovering(emit)
        learner._learner = Damaging(parts, None)  # type: ignore[assignment]
        yield Parts(parts, parts, learner)  # type: ignore[arg-type]

    run.parts = open_parts
    with pytest.raises(LearnError, match=r"step 3 cannot be made again: .*step-000003.safetensors is damaged"):
        asyncio.run(run.train())


def test_a_restart_is_an_event(training: Callable[..., Training], parts: World) -> None:
    parts.deaths = [("learn", 3, "before")]
    asyncio.run(training(STEPS).train())
    lines = list(map(json.loads, (parts.folder / "events.jsonl").read_text().splitlines()))
    kinds = [line["event"] for line in lines]
    number = kinds.index("learner_restarted")
    assert (lines[number]["from_step"], lines[number]["redone_steps"]) == (2, 1)
    expected = f"{LOST}. The learner starts again from the checkpoint of step 2 (restart 1 of 5)"
    assert lines[number - 1]["text"] == expected
    assert lines[number + 1]["text"].startswith("the learner is back at step 3 after ")


class FakeRestingFleet:
    """Samplers that sleep while the learner works."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.story: list[str] = []

    async def sleep(self) -> None:
        self.story.append("sleep")

    async def load(self, publication: Publication) -> Sync:
        assert isinstance(publication.weights, StoredWeights)
        assert not publication.weights.reference.is_dead
        self.story.append(f"load version {publication.policy.version}")
        return Sync(policy=publication.policy, proved=True, metrics={})


@pytest.mark.parametrize(
    ("death", "story"),
    [
        (("learn", 1, "before"), ["sleep"]),  # the sync after the step wakes the samplers
        (("save", 2, "before"), ["sleep", "load version 2"]),
        (("save", 2, "after"), []),  # no step is taken again
    ],
    ids=str,
)
def test_samplers_on_the_same_gpu_sleep_while_steps_are_taken_again(
    parts: World, make_group: Callable[..., GradedGroup], death: tuple[str, int, str], story: list[str]
) -> None:
    events: list[Event] = []

    async def job() -> list[str]:
        resting = FakeRestingFleet(Policy(version=0, fingerprint="base"))
        learner = parts.recovering(events.append, resting=resting)
        await learner.start()
        for _ in range(2):
            await learner.learn([make_group([0.0, 1.0], policy=resting.policy)])
            resting.policy = (await learner.publish()).policy
        await learner.save()
        return resting.story

    parts.deaths = [death]
    parts.folder.mkdir()
    assert asyncio.run(job()) == story
    assert [type(event) for event in events] == [Warned, LearnerRestarted, Notice]
