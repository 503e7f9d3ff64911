"""`learner=raft`: likelihood of the best completion of each prompt."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from rft.config.fields import Number, Positive
from rft.config.learners.group import GroupLearnerConfig


class RaftLearnerConfig(GroupLearnerConfig):
    """RAFT, or rejection sampling (arXiv 2304.06767): raises the likelihood of the best completions of each prompt."""

    trainer: ClassVar[str] = "rft.learning.raft_trainer:RaftTrainer"

    kind: Literal["raft"] = "raft"
    min_reward: Number | None = None
    """Lowest reward of a completion to learn from; null sets no limit."""
    max_per_prompt: Positive = 1
    """Number of equally good completions of a prompt to learn from, from the first."""
    correction: Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] | None = None
    """Importance sampling that corrects for the difference between sampler and learner; null corrects nothing."""

    def advantage_function(self) -> tuple[str, dict[str, Any]]:
        """Return the function that selects the best completions."""
        options = {"min_reward": self.min_reward, "max_per_group": self.max_per_prompt}
        return "rft.learning.advantages:best_of_group", options

    def loss_options(self) -> dict[str, Any]:
        """Select the mean over the trained tokens. With a ratio of 1, its gradient is that of the likelihood."""
        return {"loss_type": "dapo", "beta": self.beta, "use_bias_correction_kl": True}

    def problems(self) -> list[str]:
        """Refuse several optimizer steps on a batch, whose ratios would be clipped."""
        problems = super().problems()
        if self.epochs > 1:
            problems.append(
                f"learner.epochs={self.epochs}: from the second step on a batch, the gradient of learner=raft would no "
                "longer be that of the likelihood; use learner.epochs=1"
            )
        return problems
