"""Learners of the loop with something more: samplers that sleep while the learner works, and announced steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rft.config import RunConfig
from rft.loop import Learner
from rft.run.recovery import RecoveringLearner
from rft.sampling.fleet import Fleet
from rft.types import GradedGroup, Policy, Publication


@dataclass(frozen=True)
class TurnTaking:
    """The learner of `rft.loop`, for samplers that sleep. They wake, and prove their policy anew, at the next sync."""

    learner: RecoveringLearner
    fleet: Fleet

    async def learn(self, groups: Sequence[GradedGroup]) -> dict[str, float]:
        """Let the samplers sleep, then take one optimizer step."""
        await self.fleet.sleep()
        return await self.learner.learn(groups)

    async def policy(self) -> Policy:
        """Return version and fingerprint of the current policy."""
        return await self.learner.policy()

    async def publish(self) -> Publication:
        """Return the current policy, and leave the memory of the step to the samplers."""
        publication = await self.learner.publish()
        await self.learner.release_memory()
        return publication


@dataclass(frozen=True)
class AnnouncedSteps:
    """The learner of `rft.loop`, which announces each optimizer step before it begins."""

    learner: Learner | RecoveringLearner
    begin: Callable[[], None]

    async def learn(self, batch: Sequence[Any]) -> dict[str, float]:
        """Announce the optimizer step, and take it."""
        self.begin()
        return await self.learner.learn(batch)

    async def publish(self) -> Publication:
        """Return the current policy."""
        return await self.learner.publish()


@dataclass(frozen=True)
class AnnouncedRowSteps(AnnouncedSteps):
    """The learner of `rft.run.demonstration_loop`, which announces its steps in the same way."""

    learner: RecoveringLearner | TurnTaking

    async def policy(self) -> Policy:
        """Return version and fingerprint of the current policy."""
        return await self.learner.policy()


async def start_logprobs(run: RunConfig, learner: RecoveringLearner) -> Sequence[Sequence[float] | None]:
    """Return what the last step computed under the start of the run, for the completions whose tokens are recorded."""
    count = run.logging.completions_with_tokens if run.learner.compares_with_start else 0
    return await learner.start_logprobs(count) if count else ()
