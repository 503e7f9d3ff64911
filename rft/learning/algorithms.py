"""From the keys of `learner` to what the learner is built of: TRL's options, and what TRL does not have."""

from __future__ import annotations

from typing import Any

from rft.config.learners import GrpoLearnerConfig, PolicyLearnerConfig, PpoLearnerConfig
from rft.learning.spec import Ppo

CISPO_CLIP = 5.0
"""Bound of the ratio in `cispo` unless `clip_high` says otherwise, as in TRL's documentation of `epsilon_high`."""


def trl_options(learner: PolicyLearnerConfig) -> dict[str, Any]:
    """The fields of TRL's `GRPOConfig` that these keys stand for; `learner.trl` adds to them."""
    options: dict[str, Any] = {
        "epsilon": learner.clip,
        "epsilon_high": learner.clip_high,
        "mask_truncated_completions": learner.mask_truncated,
        "vllm_importance_sampling_correction": learner.correction is not None,
    }
    if learner.correction is not None:
        options["vllm_importance_sampling_mode"] = learner.correction
    if isinstance(learner, GrpoLearnerConfig):
        options |= {
            "loss_type": learner.loss_type,
            "scale_rewards": learner.scale_rewards,
            "importance_sampling_level": learner.importance_sampling_level,
            "beta": learner.beta,
            # Weighing the KL by the ratio gives its exact gradient, token by token; with one ratio for a whole
            # completion it does not.
            "use_bias_correction_kl": learner.importance_sampling_level == "token",
        }
        if learner.loss_type == "cispo":
            options["epsilon_high"] = learner.clip_high or CISPO_CLIP
    if isinstance(learner, PpoLearnerConfig):
        # The mean over the step's tokens; TRL computes the base model's log-probs where `beta` is not 0.
        options |= {"loss_type": "dapo", "scale_rewards": "none", "beta": learner.kl_coef}
    return options | learner.trl


def ppo(learner: PpoLearnerConfig) -> Ppo:
    """What PPO has beside TRL's options."""
    return Ppo(
        gamma=learner.gamma,
        gae_lambda=learner.gae_lambda,
        kl_coef=learner.kl_coef,
        value_clip=learner.value_clip,
        value_learning_rate=learner.value_learning_rate,
        value_updates=learner.value_updates,
    )
