"""`learner=gmpo`: geometric-mean policy optimization."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from rft.config.fields import Number
from rft.config.learners.group import GroupLearnerConfig
from rft.config.trl_problems import Need


class GmpoLearnerConfig(GroupLearnerConfig):
    """Geometric-mean policy optimization (arXiv 2507.20673), by TRL's GMPOTrainer."""

    trainer: ClassVar[str] = "rft.learning.gmpo_trainer:GmpoTrainer"

    kind: Literal["gmpo"] = "gmpo"
    clip: Annotated[Number, Field(gt=0)] = 0.4
    """Bounds each token's ratio of new to old probability to `[exp(-clip), exp(clip)]`, before the mean is taken."""
    clip_high: Annotated[Number, Field(gt=0)] | None = None
    """Bounds the ratio to `exp(clip_high)` from above instead; null takes `clip`."""
    correction: Literal["sequence_truncate", "sequence_mask"] | None = "sequence_truncate"
    """Importance sampling that corrects for the difference between sampler and learner, one weight for each
    completion; null corrects nothing."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Divisor of advantages: the standard deviation of the group, of the whole step, or none."""

    def advantage_function(self) -> tuple[str, dict[str, Any]]:
        """Return GRPO's function."""
        return "rft.learning.advantages:group_relative", {"scale": self.scale_rewards}

    def loss_options(self) -> dict[str, Any]:
        """Select the mean over completions; GMPOTrainer computes the loss itself."""
        return {"loss_type": "grpo", "beta": self.beta}

    def trl_needs(self) -> dict[str, Need]:
        """Add the options of GRPOTrainer's loss that GMPOTrainer ignores."""
        ignored = Need(False, "with another learner; GMPO has no such term")
        names = (
            "delta",
            "entropy_coef",
            "use_adaptive_entropy",
            "off_policy_mask_threshold",
            "router_aux_loss_coef",
            "use_liger_kernel",
        )
        return super().trl_needs() | dict.fromkeys(names, ignored)
