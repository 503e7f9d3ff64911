"""Keys and checks of the learners that compare the policy with the start of the run, one completion at a time."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from rft.config.fields import Number
from rft.config.learners.policy import PolicyLearnerConfig
from rft.config.trl_problems import Need

_WITHOUT_EFFECT = ("clip", "clip_high", "epochs", "correction")
"""Keys of other learners that change a policy gradient."""
_OF_OTHER_LOSSES = (
    "delta",
    "entropy_coef",
    "use_adaptive_entropy",
    "top_entropy_quantile",
    "off_policy_mask_threshold",
    "use_liger_kernel",
)
"""Options of TRL that change or replace the loss of a policy gradient."""


class PreferenceLearnerConfig(PolicyLearnerConfig):
    """Keys of the learners that compare the policy with the start of the run."""

    beta: Annotated[Number, Field(gt=0)] = 0.1
    """Weight of the distance from the start of the run (the base model, or the adapter of `start`). A higher weight
    keeps the policy closer to the start; docs/algorithms.md has the formulas."""
    correction: Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] | None = None
    """Importance sampling that corrects for the difference between sampler and learner; null corrects nothing."""

    def loss_options(self) -> dict[str, Any]:
        """Select the sum over tokens. `beta` makes TRL keep the start of the run as the reference."""
        return {"loss_type": "dapo", "scale_rewards": "none", "beta": self.beta}

    def trl_needs(self) -> dict[str, Need]:
        """Refuse TRL's options of other losses."""
        refused = Need(False, f"with another learner; the loss of learner={self.kind} has no such term")
        return super().trl_needs() | dict.fromkeys(_OF_OTHER_LOSSES, refused)

    def problems(self) -> list[str]:
        """Refuse keys that would have no effect."""
        defaults = {name: type(self).model_fields[name].default for name in _WITHOUT_EFFECT}
        given = {name: getattr(self, name) for name in _WITHOUT_EFFECT}
        return super().problems() + [
            f"learner.{name}={value}: learner={self.kind} takes one optimizer step on a batch, and neither clips nor "
            f"corrects; leave learner.{name} out"
            for name, value in given.items()
            if value != defaults[name]
        ]
