"""The learner in a Ray actor: the loop awaits it, every wait under a name and a deadline."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from rft.errors import LearnError, RftError
from rft.learning.spec import LearnerSpec, build_learner
from rft.types import GradedGroup, Publication
from rft.waiting import wait_for

T = TypeVar("T")


class LearnerActor:
    """A learner in a process of its own.

    Args:
        spec: The learner to build.
    """

    def __init__(self, spec: LearnerSpec) -> None:
        # TRL imports vLLM wherever it finds it, for a mode that is not used here: 3 s and 200 MB.
        sys.modules.setdefault("vllm", None)  # type: ignore[arg-type]
        self._learner = build_learner(spec)

    def steps_done(self) -> int:
        """Optimizer steps taken so far."""
        return self._learner.steps_done

    def learn(self, groups: Sequence[GradedGroup]) -> dict[str, float]:
        """Take one optimizer step."""
        return self._learner.learn(groups)

    def publish(self) -> Publication:
        """The policy as it stands."""
        return self._learner.publish()

    def history(self) -> list[Publication]:
        """What was published last, oldest first."""
        return self._learner.history()

    def save(self) -> None:
        """Write a checkpoint."""
        self._learner.save()

    def log(self, metrics: Mapping[str, float]) -> None:
        """Hand numbers to the trackers."""
        self._learner.log(metrics)

    def close(self) -> None:
        """End the trainer, so that the trackers write out what they hold."""
        self._learner.close()


class RemoteLearner:
    """What the loop sees of the learner.

    Args:
        spec: The learner to build.
        actor_options: Ray's options of the actor: what it sets aside, and where the actor goes.
        start_timeout_s: Deadline for loading the model, seconds.
    """

    def __init__(self, spec: LearnerSpec, *, actor_options: Mapping[str, Any], start_timeout_s: float) -> None:
        self._step_timeout_s = spec.timeout_s
        self._start_timeout_s = start_timeout_s
        self._actor: Any = ray.remote(LearnerActor).options(**actor_options).remote(spec)

    async def start(self) -> int:
        """Wait until the learner is up; return the steps it has done already."""
        return await _ask(self._actor.steps_done.remote(), "the learner to start", self._start_timeout_s)

    async def learn(self, groups: Sequence[GradedGroup]) -> dict[str, float]:
        """Take one optimizer step on these groups; return the learner's metrics."""
        return await _ask(self._actor.learn.remote(list(groups)), "the learner's step", self._step_timeout_s)

    async def publish(self) -> Publication:
        """The policy as it stands, as the next version."""
        return await _ask(self._actor.publish.remote(), "the learner to publish", self._step_timeout_s)

    async def history(self) -> list[Publication]:
        """What was published last, oldest first and ending with the newest."""
        return await _ask(self._actor.history.remote(), "the learner's history", self._step_timeout_s)

    async def save(self) -> None:
        """Write a checkpoint."""
        await _ask(self._actor.save.remote(), "the learner's checkpoint", self._step_timeout_s)

    async def log(self, metrics: Mapping[str, float]) -> None:
        """Hand numbers to the trackers."""
        await _ask(self._actor.log.remote(dict(metrics)), "the trackers", self._step_timeout_s)

    def kill(self) -> None:
        """End its process at once, whatever it is doing."""
        ray.kill(self._actor)

    async def close(self) -> None:
        """End the trainer and its process."""
        try:
            await _ask(self._actor.close.remote(), "the learner to close", self._step_timeout_s)
        finally:
            ray.kill(self._actor)


async def _ask(reference: Awaitable[T], what: str, deadline_s: float) -> T:
    """Await an answer of the learner; its failures come back as LearnError.

    Raises:
        LearnError: The learner failed, or its process is gone.
        WaitTimeout: No answer came in time.
    """
    try:
        return await wait_for(reference, what=what, deadline_s=deadline_s)
    except RayTaskError as error:
        if isinstance(error.cause, RftError):
            raise error.cause from None
        raise LearnError(f"the learner failed: {type(error.cause).__name__}: {error.cause}") from error
    except RayError as error:
        raise LearnError(f"the learner failed: {str(error).strip().splitlines()[-1]}") from error
