"""Keys and checks of the learners that compare the completions of one prompt with each other."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from rft.config.fields import Number
from rft.config.learners.policy import PolicyLearnerConfig
from rft.config.trl_problems import Need


class GroupLearnerConfig(PolicyLearnerConfig):
    """Keys of the learners that compare the completions of one prompt."""

    trainer: ClassVar[str] = "rft.learning.group_trainer:GroupTrainer"

    beta: Annotated[Number, Field(ge=0)] = 0.0
    """Weight of the KL divergence from the start of the run (the base model, or the adapter of `start`) in the loss;
    docs/algorithms.md has its formula."""

    def advantage_function(self) -> tuple[str, dict[str, Any]]:
        """Return the function from `[N]` rewards and a group size to `[N]` advantages, and its further arguments.

        The function is `module:function`, or `path/to/file.py:function` in a file of the user's.
        """
        raise NotImplementedError

    def trl_needs(self) -> dict[str, Need]:
        """Allow a reference model that follows the policy if the loss has a KL term."""
        return super().trl_needs() | {
            "sync_ref_model": Need(
                self.beta > 0 and self.adapter.trains_base, "with learner.beta above 0 and learner.adapter=full"
            ),
        }

    def batch_problems(self, *, prompts_per_step: int, completions_per_prompt: int) -> list[str]:
        """Refuse groups of one completion."""
        if completions_per_prompt > 1:
            return []
        return [
            f"loop.completions_per_prompt={completions_per_prompt}: learner={self.kind} compares the completions of a "
            "prompt, so it needs at least 2; learner=ppo needs only 1"
        ]
