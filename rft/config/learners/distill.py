"""`learner=distill`: on-policy distillation from a teacher."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from rft.config.fields import Number
from rft.config.learners.policy import PolicyLearnerConfig


class DistillLearnerConfig(PolicyLearnerConfig):
    """On-policy distillation: the student samples, and a teacher scores its tokens (arXiv 2306.13649).

    The gradient is that of the reverse KL divergence from student to teacher: estimated from the sampled tokens, or
    computed over the teacher's most probable ones with `teacher.top_logprobs`.
    """

    trainer: ClassVar[str] = "rft.learning.distill_trainer:DistillTrainer"
    has_teacher: ClassVar[bool] = True

    kind: Literal["distill"] = "distill"
    learning_rate: Annotated[Number, Field(gt=0)] = 1e-4
    """Peak learning rate. Every token has its own advantage, so a step carries more signal than one of GRPO."""

    jsd_beta: Annotated[Number, Field(ge=0, le=1)] = 1.0
    """The divergence between student and teacher, with `teacher.top_logprobs`: 1 is the reverse KL, 0 the forward KL,
    and values between are the generalized Jensen-Shannon divergence of GKD."""

    def loss_options(self) -> dict[str, Any]:
        """Select the mean over the step's tokens. The teacher is the only reference, so there is no KL term."""
        return {"loss_type": "dapo", "scale_rewards": "none", "beta": 0.0}

    def batch_problems(self, *, prompts_per_step: int, completions_per_prompt: int) -> list[str]:
        """Refuse steps of one completion, which TRL does not take."""
        if prompts_per_step * completions_per_prompt > 1:
            return []
        return [f"loop.prompts_per_step={prompts_per_step}: learner=distill needs at least 2 completions in a step"]
