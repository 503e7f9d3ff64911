"""`learner=kto`: Kahneman-Tversky optimization."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from rft.config.fields import Number
from rft.config.learners.base import Takes
from rft.config.learners.preference import PreferenceLearnerConfig


class KtoLearnerConfig(PreferenceLearnerConfig):
    """Kahneman-Tversky optimization (arXiv 2402.01306): single completions that are desirable or undesirable."""

    trainer: ClassVar[str] = "rft.learning.kto_trainer:KtoTrainer"

    kind: Literal["kto"] = "kto"
    completions: Literal["sampled", "recorded"] = "sampled"
    """Origin of the completions: those that this run samples and grades, or the rows of `data.train`, with a label."""
    desirable_reward: Number | None = None
    """Lowest reward of a desirable completion; all others are undesirable. null compares each completion with the mean
    of its group, so that a group of equal rewards teaches nothing."""
    desirable_weight: Annotated[Number, Field(gt=0)] = 1.0
    """Weight of desirable completions. If they are rare, raise it, up to the ratio of undesirable to desirable ones."""
    undesirable_weight: Annotated[Number, Field(gt=0)] = 1.0
    """Weight of undesirable completions."""

    @property
    def takes(self) -> Takes:
        """Groups, or recorded completions."""
        return "groups" if self.completions == "sampled" else "labelled completions"

    @property
    def needs_differences(self) -> bool:
        """Whether a completion is compared with others of its group."""
        return self.desirable_reward is None

    def problems(self) -> list[str]:
        """Refuse keys about rewards and truncation where there are none."""
        problems = super().problems()
        if self.completions == "recorded":
            given = {"desirable_reward": self.desirable_reward, "mask_truncated": self.mask_truncated or None}
            problems += [
                f"learner.{name}={str(value).lower()}: recorded completions have labels instead of rewards, and none "
                f"is truncated; leave learner.{name} out"
                for name, value in given.items()
                if value is not None
            ]
        return problems

    def batch_problems(self, *, prompts_per_step: int, completions_per_prompt: int) -> list[str]:
        """Refuse groups of one completion without a limit to compare with, and steps of one completion."""
        if self.completions == "sampled" and self.desirable_reward is None and completions_per_prompt == 1:
            return [
                f"loop.completions_per_prompt={completions_per_prompt}: learner=kto compares a completion with the "
                "mean of its group, so it needs at least 2; or set learner.desirable_reward"
            ]
        if prompts_per_step * completions_per_prompt == 1:
            return [f"loop.prompts_per_step={prompts_per_step}: learner=kto needs at least 2 completions in a step"]
        return []
