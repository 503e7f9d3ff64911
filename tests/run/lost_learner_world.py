"""A run in this process whose learner is lost whenever a test wants it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from rft.errors import LearnerLost
from rft.events import Emit
from rft.learning.fake import FakeLearner
from rft.learning.spec import LearnerSpec
from rft.run.parts import Parts
from rft.run.recovery import RecoveringLearner
from rft.run_folder.recorder import read_metrics
from rft.types import Adapter, FullWeights, GradedGroup, Policy, Publication, StoredWeights, Sync, Task

NAMES = ("learner_restarts", "redone_steps")
LOST = "the learner is lost: its process ended"


class ChainLearner(FakeLearner):
    """A fake learner whose weights are a hash of everything that it has learned from, in order."""

    def __init__(self, spec: LearnerSpec, salt: str = "") -> None:
        self.state = ""
        self.learned: Sequence[GradedGroup] = ()
        self.salt = salt
        if spec.resume_from is not None:
            self.state = (spec.run_folder / f"state of {spec.resume_from.name}").read_text()
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
        self.learned = groups
        return metrics

    def start_logprobs(self, count: int) -> list[list[float] | None]:
        rollouts = [rollout for group in self.learned for rollout in group.rollouts]
        return [[-float(token) for token in rollout.completion_ids] for rollout in rollouts[:count]]

    def save(self) -> None:
        self._spec.run_folder.mkdir(parents=True, exist_ok=True)
        (self._spec.run_folder / f"state of checkpoint-{self.steps_done}").write_text(self.state)
        super().save()

    def _publication(self) -> Publication:
        tensors = safetensors.numpy.save({"state": np.array(list(self.state.encode()), dtype=np.uint8)})
        policy = Policy(version=self.steps_done, fingerprint=hashlib.sha256(tensors).hexdigest()[:16])
        return Publication(weights=Adapter(policy=policy, config={}, tensors=tensors))


class FakeRemote:
    """Stands for `RemoteLearner`. It dies in the calls that `world.deaths` lists; a dead one answers no call."""

    def __init__(self, world: World, spec: LearnerSpec) -> None:
        self.world = world
        self.learner = ChainLearner(spec, salt=world.salt if world.remotes else "")
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
        self.world.learning(self.learner.steps_done)
        await asyncio.sleep(0)
        metrics: dict[str, float] = self.call("learn", groups)
        return metrics

    async def start_logprobs(self, count: int) -> list[list[float] | None]:
        logprobs: list[list[float] | None] = self.call("start_logprobs", count)
        return logprobs

    async def publish(self) -> Publication:
        return self.by_reference(self.call("publish"))

    async def start_publication(self) -> Publication | None:
        return None

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
        if self.world.mirror is not None:
            await self.world.mirror.bring_back()

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
        self.learning: Callable[[int], None] = lambda steps_done: None
        """Called before each step, also of those that are taken again."""
        self.salt = ""
        self.max_restarts = 5
        self.staleness = 0
        self.checkpoint: Path | None = None
        self.mirror: Any = None
        """Of the learner's node, if that does not see the run folder."""
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

    async def recovering(self, emit: Emit, **options: Any) -> RecoveringLearner:
        async def build(checkpoint: Path | None) -> FakeRemote:
            spec = self.spec(checkpoint)
            return FakeRemote(self, spec if self.mirror is None else await self.mirror.move(spec))

        return RecoveringLearner(
            await build(self.checkpoint),  # type: ignore[arg-type]
            build=build,  # type: ignore[arg-type]
            folder=self.folder,
            max_restarts=self.max_restarts,
            emit=emit,
            **options,
        )

    @asynccontextmanager
    async def open(self, emit: Emit) -> AsyncIterator[Parts[Any]]:
        learner = await self.recovering(emit)
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
        recovery = json.loads((self.folder / "summary.json").read_text()).get("recovery", {})
        return tuple(recovery.get(name, 0) for name in NAMES)  # type: ignore[return-value]

    @property
    def counts_of_steps(self) -> tuple[int, int]:
        """Restarts and steps taken again, from the metrics."""
        lines = [line["metrics"] for line in read_metrics(self.folder)]
        names = [f"recovery/{name}" for name in NAMES]
        return tuple(sum(line.get(name, 0) for line in lines) for name in names)  # type: ignore[return-value]

    @property
    def shards(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "tokens").iterdir())
