"""A learner that survives the loss of its processes, and the sampler that loads its weights.

If the learner, or one of its ranks, dies or does not answer, all ranks start again from the newest checkpoint, or from
the start of the run. They take the later steps again, from the batches that the run folder records, and each policy
must have the same fingerprint as before. The loop waits meanwhile, and batches in flight stay.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rft.batches import Sampler
from rft.data.demonstration_records import TokenRow
from rft.errors import LearnerLost, LearnError, RftError
from rft.events import Emit, LearnerRestarted, Notice, Warned
from rft.learning.checkpoints import complete_checkpoints, damage
from rft.learning.remote import RemoteLearner
from rft.run_folder.recorder import read_metrics
from rft.run_folder.token_shards import read_shard, remove_shards, write_shard
from rft.sampling.fleet import Fleet
from rft.types import Adapter, FullWeights, GradedGroup, Logprobs, Policy, Publication, Rollout, Sync, Task

T = TypeVar("T")


class BatchRecord(Protocol):
    """Records batches, so that a learner can take a step again."""

    def write(self, step: int, batch: Sequence[Any]) -> None:
        """Record the batch of a step."""

    def read(self, step: int) -> Sequence[Any]:
        """Return the batch of a step."""

    def remove(self, *, up_to: int) -> None:
        """Remove the batches of all steps up to this one."""


@dataclass(frozen=True)
class GroupShards:
    """Records graded groups as token shards in a run folder."""

    folder: Path
    """The run folder."""

    def write(self, step: int, batch: Sequence[GradedGroup]) -> None:
        """Write the shard of a step."""
        write_shard(self.folder, step, batch)

    def read(self, step: int) -> Sequence[GradedGroup]:
        """Read the groups of a step."""
        return read_shard(self.folder, step)

    def remove(self, *, up_to: int) -> None:
        """Remove the shards of all steps up to this one."""
        remove_shards(self.folder, up_to=up_to)


class RecoveringLearner:
    """The learner of a run, which starts again after the loss of a process.

    Args:
        learner: The learner, which may still be starting.
        build: Builds another one in the same places, from a checkpoint or from the start of the run.
        folder: The run folder, with checkpoints and recorded batches.
        max_restarts: Number of restarts; a further loss ends the run.
        emit: Receives warnings and restarts.
        batches: Records the batches since the last checkpoint; by default as token shards.
        resting: The samplers, if they sleep while the learner works, which then needs the memory of their GPU. A
            restart that takes steps again lets them sleep, and wakes them afterwards if they were awake.
    """

    def __init__(
        self,
        learner: RemoteLearner,
        *,
        build: Callable[[Path | None], Awaitable[RemoteLearner]],
        folder: Path,
        max_restarts: int,
        emit: Emit,
        batches: BatchRecord | None = None,
        resting: Fleet | None = None,
    ) -> None:
        self.max_restarts = max_restarts
        """Number of restarts; a further loss ends the run."""
        self.is_restarting = False
        """Whether the learner starts again after the loss of a process."""
        self._learner = learner
        self._build = build
        self._folder = folder
        self._emit = emit
        self._batches = batches or GroupShards(folder)
        self._resting = resting
        self._recovering = asyncio.Lock()
        self._num_restarts = 0
        self._steps_done = 0
        self._restored_step: int | None = None
        self._policies: dict[int, Policy] = {}

    async def start(self) -> None:
        """Wait until all ranks have started.

        Raises:
            LearnError: A rank failed, or the ranks start from different weights.
        """
        try:
            self._steps_done = await self._learner.start()
        except LearnerLost as lost:
            await self._recover(lost)

    async def learn(self, batch: Sequence[Any]) -> dict[str, float]:
        """Record this batch, take one optimizer step on it, and return the learner's metrics."""
        self._batches.write(self._steps_done + 1, batch)
        metrics = await self._call(lambda learner: learner.learn(batch))
        self._steps_done += 1
        return metrics

    async def start_logprobs(self, count: int) -> list[list[float] | None]:
        """Return log-probabilities under the start of the run, of the first completions of the last step.

        A restarted learner has them again if it took this step again: ask before the step's checkpoint.
        """
        return await self._call(lambda learner: learner.start_logprobs(count))

    async def publish(self) -> Publication:
        """Publish the current policy. Its weights are a reference, valid while the process lives."""
        publication = await self._call(lambda learner: learner.publish())
        self._policies[publication.policy.version] = publication.policy
        return publication

    async def policy(self) -> Policy:
        """Return version and fingerprint of the current policy, without a publication."""
        policy = await self._call(lambda learner: learner.policy())
        self._policies[policy.version] = policy
        return policy

    async def start_publication(self) -> Publication | None:
        """Return the adapter that the run started from, with a reference as from `publish`; None for the base model."""
        return await self._call(lambda learner: learner.start_publication())

    async def history(self) -> list[Publication]:
        """Return the last publications, oldest first, with references as from `publish`."""
        return await self._call(lambda learner: learner.history())

    async def published(self, policy: Policy) -> Publication:
        """Return one of the last publications, or the start of the run, again, with a reference that is valid now.

        Raises:
            LearnError: The learner does not keep this policy.
        """
        kept = await self._kept()
        if (publication := _find(policy, kept)) is not None:
            return publication
        names = ", ".join(publication.policy.name for publication in kept)
        raise LearnError(f"the learner does not keep the weights of {policy.name}; it keeps {names or 'none'}")

    async def renewed(self, policy: Policy) -> Publication | None:
        """Return one of the last publications again like `published`; None if the learner does not keep it."""
        return _find(policy, await self._kept())

    async def _kept(self) -> list[Publication]:
        """Return the start of the run, if it is an adapter, and the last publications."""
        start = await self.start_publication()
        return [*([start] if start else []), *await self.history()]

    async def losses(self, rows: Sequence[TokenRow]) -> list[float]:
        """Return `[N]` negative log-likelihoods of rows under the current policy of `learner=sft`."""
        return await self._call(lambda learner: learner.losses(rows))

    async def weights(self) -> Adapter | FullWeights:
        """Fetch the weights of the current policy into this process."""
        return await self._call(lambda learner: learner.weights())

    async def base_canary_logprobs(self) -> Logprobs:
        """Return the base model's scores of the canaries."""
        return await self._call(lambda learner: learner.base_canary_logprobs())

    async def release_memory(self) -> None:
        """Give GPU memory that all ranks reserve but do not use back to other processes."""
        await self._call(lambda learner: learner.release_memory())

    async def save(self) -> None:
        """Write a checkpoint, and remove the recorded batches that no checkpoint needs any more."""
        await self._call(self._save)
        self._batches.remove(up_to=min((step for step, _ in complete_checkpoints(self._folder)), default=0))

    async def _save(self, learner: RemoteLearner) -> None:
        if self._restored_step != self._steps_done:  # else the lost process had written the checkpoint
            await learner.save()

    async def close(self) -> None:
        """Close the learner, then kill its processes. The loss of a process is only a warning here."""
        self.max_restarts = 0  # a sampler that is replaced at the end may still ask for weights
        try:
            await self._learner.close()
        except LearnerLost as lost:
            self._emit(Warned(text=f"{lost}, while it closed after its last step"))

    async def _call(self, call: Callable[[RemoteLearner], Awaitable[T]]) -> T:
        """Call the learner, and call it again after each restart."""
        while True:
            async with self._recovering:
                learner = self._learner
            try:
                return await call(learner)
            except LearnerLost as lost:
                async with self._recovering:
                    if learner is self._learner:  # another call may have restarted it
                        await self._recover(lost)

    async def _recover(self, lost: LearnerLost) -> None:
        """Restart the learner until it has taken all steps again.

        Raises:
            LearnError: A step cannot be taken again, or leads to other weights.
            LearnerLost: The learner has used up its restarts.
        """
        wakes = self._resting is not None and not self._resting.is_asleep
        self.is_restarting = True
        try:
            while True:
                self._learner.kill()
                self._count_restart(lost)
                try:
                    await self._restart(lost, wakes=wakes)
                    return
                except LearnerLost as another:
                    lost = another
        except Exception as error:
            self._learner.kill()  # it may lack steps
            if self._resting is not None:  # which may sleep, although requests wait
                text = f"the learner cannot start again: {type(error).__name__}: {error}"
                self._resting.fail(error if isinstance(error, RftError) else LearnError(text))
            raise
        finally:
            self.is_restarting = False

    def _count_restart(self, lost: LearnerLost) -> None:
        """Count a restart, or refuse it.

        Raises:
            LearnerLost: All restarts are used up.
        """
        if not self.max_restarts:
            raise lost
        if self._num_restarts == self.max_restarts:
            raise LearnerLost(
                f"{str(lost).rstrip('.')}; the learner may not start again after {self._num_restarts} restarts, "
                "since learner.max_restarts allows no more"
            ) from lost
        self._num_restarts += 1

    async def _restart(self, lost: LearnerLost, *, wakes: bool) -> None:
        """Start the learner from the newest checkpoint, and take the later steps again."""
        began = time.monotonic()
        checkpoint, step = self._newest_checkpoint()
        redone_steps = max(0, self._steps_done - step)
        origin = f"the checkpoint of step {step}" if checkpoint else "the start of the run"
        restart = f"restart {self._num_restarts} of {self.max_restarts}"
        self._emit(Warned(text=f"{str(lost).rstrip('.')}; the learner starts again from {origin} ({restart})"))
        self._emit(LearnerRestarted(from_step=step, redone_steps=redone_steps))
        resting = self._resting if redone_steps else None
        if resting is not None:
            await resting.sleep()
        self._learner = await self._build(checkpoint)
        self._restored_step = await self._learner.start()
        self._steps_done = max(self._steps_done, self._restored_step)
        await self._redo(range(self._restored_step + 1, self._steps_done + 1))
        if resting is not None:
            await self._learner.release_memory()
            target = _find(resting.target, await self._learner.history())
            if wakes and target is not None:  # else the load of a newer policy follows
                await resting.wake(target)
        seconds = time.monotonic() - began
        self._emit(Notice(text=f"the learner is back at step {self._steps_done} after {seconds:.0f} s"))

    def _newest_checkpoint(self) -> tuple[Path | None, int]:
        """Return the newest whole checkpoint and its step; None and 0 without one. Warn of newer, damaged ones."""
        for step, folder in sorted(complete_checkpoints(self._folder), reverse=True):
            problems = damage(folder)
            if not problems:
                return folder, step
            self._emit(Warned(text=f"{folder} is damaged: {', '.join(problems)}; the learner does not start from it"))
        return None, 0

    async def _redo(self, steps: range) -> None:
        """Take recorded steps again, and publish each policy, so that the learner accepts rollouts of all of them.

        Raises:
            LearnError: A recorded batch is missing or damaged, or a policy differs from the recorded one.
        """
        recorded = {line["step"]: Policy(**line["policy"]) for line in read_metrics(self._folder)} | self._policies
        for step in steps:
            await self._learner.learn(self._batches.read(step))
            policy = (await self._learner.publish()).policy
            expected = recorded.setdefault(step, policy)
            if policy != expected:
                raise LearnError(
                    f"step {step} led to other weights when the learner took it again from the recorded batch: "
                    f"fingerprint {policy.fingerprint}, not {expected.fingerprint}. The learner's operations are not "
                    "deterministic on this machine; continue from the last checkpoint with resume=<run folder>"
                )
            self._policies[step] = policy


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewingSampler:
    """The sampler of `rft.loop`: one that loads a policy again if the learner took its weights along."""

    sampler: Sampler
    """Samples completions."""
    learner: RecoveringLearner
    """Publishes the policies."""

    def sample(
        self, tasks: Sequence[Task], *, completions_per_task: int, temperature: float, purpose: str, step: int
    ) -> AsyncIterator[Rollout]:
        """Sample completions under the current policy, like `Fleet.sample`."""
        return self.sampler.sample(
            tasks, completions_per_task=completions_per_task, temperature=temperature, purpose=purpose, step=step
        )

    async def load(self, publication: Publication) -> Sync:
        """Load a policy like `Fleet.load`. If its weights are lost, load those of the running learner's publication."""
        for _ in range(self.learner.max_restarts):
            try:
                return await self.sampler.load(publication)
            except LearnerLost:
                publication = await self.learner.published(publication.policy)
        return await self.sampler.load(publication)


def _find(policy: Policy, history: Sequence[Publication]) -> Publication | None:
    """Return the publication of a policy; None without one."""
    return next((publication for publication in history if publication.policy == policy), None)
