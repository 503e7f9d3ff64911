"""`learner=ppo`: proximal policy optimization with a value function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from rft.config.fields import Number, Positive
from rft.config.learners.policy import PolicyLearnerConfig


class PpoLearnerConfig(PolicyLearnerConfig):
    """Proximal policy optimization (arXiv 1707.06347) with a learned value function."""

    trainer: ClassVar[str] = "rft.learning.ppo_trainer:PpoTrainer"
    instead_of_trl: ClassVar[Mapping[str, str]] = {"beta": "learner.kl_coef"}

    kind: Literal["ppo"] = "ppo"
    gamma: Annotated[Number, Field(gt=0, le=1)] = 1.0
    """Discount factor per token."""
    gae_lambda: Annotated[Number, Field(ge=0, le=1)] = 0.95
    """Lambda of generalized advantage estimation (arXiv 1506.02438): 1 trusts the rewards, 0 the value function."""
    kl_coef: Annotated[Number, Field(ge=0)] = 0.0
    """Weight of the KL divergence from the start of the run (the base model, or the adapter of `start`), subtracted
    from each token's reward."""
    value_clip: Annotated[Number, Field(gt=0)] = 0.2
    """Largest change of a value within a step."""
    value_learning_rate: Annotated[Number, Field(gt=0)] = 1e-3
    """Learning rate of the value function."""
    value_updates: Positive = 8
    """Optimizer steps of the value function on the completions of a step."""

    def loss_options(self) -> dict[str, Any]:
        """Select the mean over the step's tokens. With `beta` above 0, TRL scores the tokens with the base model."""
        return {"loss_type": "dapo", "scale_rewards": "none", "beta": self.kl_coef}

    def turn_credit_problems(self, discount: float) -> list[str]:
        """Refuse a discount by turn, because GAE discounts by token."""
        if discount == 1:
            return []
        return [f"environment.discount={discount:g}: learner=ppo discounts by token; use learner.gamma"]

    def batch_problems(self, *, prompts_per_step: int, completions_per_prompt: int) -> list[str]:
        """Refuse steps of one completion."""
        if prompts_per_step * completions_per_prompt > 1:
            return []
        return [f"loop.prompts_per_step={prompts_per_step}: PPO needs at least 2 completions in a step"]
