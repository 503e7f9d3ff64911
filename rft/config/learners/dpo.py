"""`learner=dpo`: direct preference optimization."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from rft.config.fields import Number
from rft.config.learners.base import Takes
from rft.config.learners.preference import PreferenceLearnerConfig


class DpoLearnerConfig(PreferenceLearnerConfig):
    """Direct preference optimization (arXiv 2305.18290): prefers the best completion of each prompt to the worst."""

    trainer: ClassVar[str] = "rft.learning.dpo_trainer:DpoTrainer"

    kind: Literal["dpo"] = "dpo"
    pairs: Literal["sampled", "recorded"] = "sampled"
    """Origin of the pairs: completions that this run samples and grades, or the rows of `data.train`."""
    min_gap: Annotated[Number, Field(ge=0)] = 0.0
    """The rewards of the best and the worst completion must differ by more than this to make a pair."""

    @property
    def takes(self) -> Takes:
        """Groups, or recorded preferences."""
        return "groups" if self.pairs == "sampled" else "preferences"

    def problems(self) -> list[str]:
        """Refuse a gap between rewards where there are none."""
        problems = super().problems()
        if self.pairs == "recorded":
            given = {"min_gap": self.min_gap, "mask_truncated": self.mask_truncated}
            problems += [
                f"learner.{name}={str(value).lower()}: recorded pairs have no rewards and no truncated completions; "
                f"leave learner.{name} out"
                for name, value in given.items()
                if value
            ]
        return problems

    def batch_problems(self, *, prompts_per_step: int, completions_per_prompt: int) -> list[str]:
        """Refuse groups of one completion."""
        if completions_per_prompt > 1:
            return []
        return [
            f"loop.completions_per_prompt={completions_per_prompt}: learner=dpo pairs the best completion of a prompt "
            "with the worst, so it needs at least 2"
        ]
