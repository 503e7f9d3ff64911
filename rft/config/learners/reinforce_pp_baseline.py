"""`learner=reinforce_pp_baseline`: REINFORCE++ with the group's mean as baseline."""

from __future__ import annotations

from typing import Any, Literal

from rft.config.learners.group import GroupLearnerConfig


class ReinforcePpBaselineLearnerConfig(GroupLearnerConfig):
    """REINFORCE++ with baseline (arXiv 2501.03262): advantages normalized over the whole step, not in each group."""

    kind: Literal["reinforce_pp_baseline"] = "reinforce_pp_baseline"

    def advantage_function(self) -> tuple[str, dict[str, Any]]:
        """Return the function that subtracts the group's mean and normalizes over the step."""
        return "rft.learning.advantages:reinforce_pp_baseline", {}

    def turn_credit_problems(self, discount: float) -> list[str]:
        """Accept rewards by turn."""
        return []

    def loss_options(self) -> dict[str, Any]:
        """Select PPO's clipped loss and its mean over all tokens of the step."""
        return {"loss_type": "dapo", "beta": self.beta, "use_bias_correction_kl": True}
