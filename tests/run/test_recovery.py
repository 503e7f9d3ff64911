"""A learner whose process is lost at every moment of a run: the run ends as if nothing had happened."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rft.cluster.mirrored_learner import Mirror
from rft.cluster.node_agent import NodeKeeper
from rft.config.learners.fake import FakeLearnerConfig
from rft.errors import LearnerLost, LearnError
from rft.events import Event, LearnerRestarted, Notice, Warned
from rft.run.training import Training
from rft.run_folder.find_checkpoint import last_checkpoint
from rft.run_folder.recorded_tokens import RecordedTokens, tokens_of
from rft.run_folder.recorder import Recorder, read_rollouts
from rft.types import GradedGroup, Policy, Publication, StoredWeights
from tests.cluster.test_file_transfer import Remote

from .lost_learner_world import LOST, FakeRemote, World

STEPS = "loop.steps=5"
"""With a checkpoint after every second step."""


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
    (("publish", 4, "before"), (1, 2)),
    (("publish", 4, "after"), (1, 2)),
    (("load", 4, "before"), (1, 2)),
    (("save", 4, "half"), (1, 2)),
    (("save", 4, "after"), (1, 0)),  # the checkpoint is complete, although the learner did not say so
    (("weights", 5, "before"), (1, 0)),
    (("close", 5, "before"), (0, 0)),
]
OTHER_STEPS = [
    (("learn", 3, "before"), (1, 1)),
    (("publish", 1, "before"), (1, 1)),
    (("load", 1, "before"), (1, 1)),
    (("save", 2, "before"), (1, 2)),
    (("save", 5, "half"), (1, 1)),
]
"""The same moments in other steps."""


@pytest.mark.parametrize(
    ("death", "counts"),
    [*MOMENTS, *(pytest.param(*moment, marks=pytest.mark.full) for moment in OTHER_STEPS)],
    ids=lambda value: "-".join(map(str, value)),
)
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
    # The checkpoints of steps 4 and 5 are kept.
    assert parts.shards == ["step-000005.safetensors"]
    # The summary also counts restarts after the last step, which no line of metrics can contain.
    assert parts.counts_of_steps == ((0, 0) if death[1] == 5 else counts)


def test_a_loss_leaves_the_log_probabilities_of_the_start(
    training: Callable[..., Training], parts: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeLearnerConfig, "compares_with_start", True)
    parts.deaths = [("start_logprobs", 3, "before"), ("start_logprobs", 3, "after")]
    recorder = Recorder(parts.folder, completions_with_tokens=1)
    asyncio.run(training(STEPS, "logging.completions_with_tokens=1", recorder=recorder).train())
    assert (parts.deaths, parts.counts) == ([], (2, 2))
    by_step: dict[int, list[RecordedTokens | None]] = {}
    for line in read_rollouts(parts.folder, "train"):
        by_step.setdefault(line["step"], []).append(tokens_of(line))
    first, *others = by_step[3]
    assert first is not None and first.start_logprobs == (-7.0, -13.0)  # those of this step, under `World.grade`
    assert others and set(others) == {None} and len(by_step) == 5


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


@pytest.mark.parametrize("death", [("learn", 3, "before"), ("save", 4, "half"), ("save", 4, "after")], ids=str)
def test_a_learner_on_a_node_that_does_not_see_the_run_folder(
    training: Callable[..., Training],
    parts: World,
    undisturbed: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    death: tuple[str, int, str],
) -> None:
    expected = undisturbed()
    monkeypatch.setattr("rft.cluster.file_transfer.ray.put", lambda data: data)
    node = tmp_path / "node"
    keeper = Remote(NodeKeeper(str(node)))
    parts.mirror = Mirror(keeper, node_folder=str(node), run="r", run_folder=parts.folder, deadline_s=60)
    parts.deaths = [death]
    assert asyncio.run(training(STEPS).train()) == 0
    assert (parts.deaths, parts.policies, parts.counts[0]) == ([], expected, 1)
    here, there = (
        sorted(path.name for path in (run / "checkpoints").iterdir()) for run in (parts.folder, node / "runs" / "r")
    )
    assert here == there


def test_a_resumed_run_recovers_before_its_first_step(
    training: Callable[..., Training], parts: World, undisturbed: Callable[..., list[str]], tmp_path: Path
) -> None:
    parts.staleness = 1
    expected = undisturbed("loop.staleness=1")
    (tmp_path / "undisturbed").rename(parts.folder)
    shutil.rmtree(parts.folder / "checkpoints" / "checkpoint-5")
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


def test_a_stop_does_not_wait_for_a_learner_that_starts_again(
    training: Callable[..., Training],
    parts: World,
    undisturbed: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = undisturbed()
    start = FakeRemote.start

    async def hang(remote: FakeRemote) -> int:
        if len(parts.remotes) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(3600)
        return await start(remote)

    monkeypatch.setattr(FakeRemote, "start", hang)
    parts.deaths = [("learn", 3, "before")]
    assert asyncio.run(training(STEPS, "loop.stop_timeout_s=0.01").train()) == 143
    assert json.loads((parts.folder / "summary.json").read_text())["status"] == "interrupted"

    (parts.folder / "config.yaml").touch()
    parts.checkpoint, step = last_checkpoint(parts.folder)
    recorder = Recorder.resume(parts.folder, last_step=step)
    assert asyncio.run(training(STEPS, last_step=step, recorder=recorder).train()) == 0
    assert (step, parts.policies) == (2, expected)


@pytest.mark.parametrize(
    ("max_restarts", "message"),
    [
        (0, LOST),
        (2, f"{LOST}; the learner may not start again after 2 restarts, since learner.max_restarts allows no more"),
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
    def fail(steps_done: int) -> None:
        raise error

    parts.learning = fail
    with pytest.raises(type(error), match=str(error)):
        asyncio.run(training(STEPS).train())
    assert parts.counts == (0, 0)


def test_a_step_that_leads_to_other_weights_ends_the_run(training: Callable[..., Training], parts: World) -> None:
    parts.salt = "another processor"
    parts.deaths = [("learn", 3, "before")]
    with pytest.raises(LearnError, match=r"^step 3 led to other weights .*fingerprint \w{16}, not \w{16}\. .*resume="):
        asyncio.run(training(STEPS).train())


def test_a_damaged_batch_ends_the_run(training: Callable[..., Training], parts: World) -> None:
    def damage(steps_done: int) -> None:
        if steps_done == 3:
            path = parts.folder / "tokens" / "step-000003.safetensors"
            path.write_bytes(path.read_bytes()[:-1] + b"?")

    parts.learning = damage
    parts.deaths = [("learn", 3, "before")]
    with pytest.raises(LearnError, match=r"step 3 cannot be made again: .*step-000003.safetensors is damaged"):
        asyncio.run(training(STEPS).train())


def test_a_damaged_checkpoint_is_passed_over(
    training: Callable[..., Training], parts: World, undisturbed: Callable[..., list[str]], printed: io.StringIO
) -> None:
    expected = undisturbed()
    file = parts.folder / "checkpoints" / "checkpoint-4" / "published" / "publications.json"

    def damage(steps_done: int) -> None:
        if steps_done == 4:
            file.write_text("[]")

    parts.learning = damage
    parts.deaths = [("learn", 4, "before")]
    assert asyncio.run(training(STEPS).train()) == 0
    assert (parts.policies, parts.counts) == (expected, (1, 2))
    assert "checkpoint-4 is damaged: published/publications.json has 2 bytes instead of " in printed.getvalue()


def test_two_calls_that_lose_the_learner_restart_it_once(parts: World) -> None:
    events: list[Event] = []

    async def job() -> None:
        learner = await parts.recovering(events.append)
        await learner.start()
        await learner.learn([])
        policy = (await learner.publish()).policy
        parts.remotes[0].kill()
        fresh, _, published = await asyncio.gather(learner.published(policy), learner.learn([]), learner.history())
        assert (fresh.policy, len(published)) == (policy, 1)

    parts.folder.mkdir()
    asyncio.run(job())
    assert [event for event in events if isinstance(event, LearnerRestarted)] == [
        LearnerRestarted(from_step=0, redone_steps=1)
    ]


def test_a_policy_that_the_learner_does_not_keep(parts: World) -> None:
    async def job() -> None:
        learner = await parts.recovering(print)
        await learner.start()
        await learner.learn([])
        await learner.publish()
        await learner.published(Policy(version=0, fingerprint="base"))

    parts.folder.mkdir()
    with pytest.raises(LearnError, match=r"does not keep the weights of policy-v0-base; it keeps policy-v1-\w{16}$"):
        asyncio.run(job())


def test_a_sampler_that_is_replaced_while_the_run_closes_restarts_no_learner(parts: World) -> None:
    async def job() -> None:
        learner = await parts.recovering(print)
        await learner.start()
        await learner.learn([])
        policy = (await learner.publish()).policy
        await learner.close()
        parts.remotes[0].kill()
        with pytest.raises(LearnerLost):
            await learner.renewed(policy)

    parts.folder.mkdir()
    asyncio.run(job())
    assert len(parts.remotes) == 1


def test_a_restart_is_an_event(training: Callable[..., Training], parts: World) -> None:
    parts.deaths = [("learn", 3, "before")]
    asyncio.run(training(STEPS).train())
    lines = list(map(json.loads, (parts.folder / "events.jsonl").read_text().splitlines()))
    kinds = [line["event"] for line in lines]
    number = kinds.index("learner_restarted")
    assert (lines[number]["from_step"], lines[number]["redone_steps"]) == (2, 1)
    expected = f"{LOST}; the learner starts again from the checkpoint of step 2 (restart 1 of 5)"
    assert lines[number - 1]["text"] == expected
    assert lines[number + 1]["text"].startswith("the learner is back at step 3 after ")


class FakeRestingFleet:
    """Samplers that sleep while the learner works."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.is_asleep = False
        self.story: list[str] = []

    @property
    def target(self) -> Policy:
        return self.policy

    async def sleep(self) -> None:
        self.is_asleep = True
        self.story.append("sleep")

    async def wake(self, publication: Publication) -> None:
        assert isinstance(publication.weights, StoredWeights)
        assert not publication.weights.reference.is_dead
        self.is_asleep = False
        self.story.append(f"wake under version {publication.policy.version}")


@pytest.mark.parametrize(
    ("death", "story"),
    [
        (("learn", 1, "before"), ["sleep"]),  # they sleep already; the sync after the step wakes them
        (("save", 2, "before"), ["sleep", "wake under version 2"]),
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
        learner = await parts.recovering(events.append, resting=resting)
        await learner.start()
        for _ in range(2):
            resting.is_asleep = True
            await learner.learn([make_group([0.0, 1.0], policy=resting.policy)])
            resting.is_asleep = False
            resting.policy = (await learner.publish()).policy
        await learner.save()
        return resting.story

    parts.deaths = [death]
    parts.folder.mkdir()
    assert asyncio.run(job()) == story
    assert [type(event) for event in events] == [Warned, LearnerRestarted, Notice]
