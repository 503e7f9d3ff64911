"""`learner=grpo` and its presets: group relative policy optimization and its family."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from rft.config.advantage_problems import advantage_problems
from rft.config.learners.group import GroupLearnerConfig
from rft.config.trl_problems import Need

CISPO_CLIP = 5.0
"""Bound of the ratio in `cispo` unless `clip_high` says otherwise, as in TRL's documentation of `epsilon_high`."""
ADVANTAGES = ("group", "rloo")
"""The advantages that rft computes itself."""
CLIPPED_LOSSES = ("grpo", "dapo", "dr_grpo", "bnpo", "luspo")
"""Losses that clip the ratio."""


class GrpoLearnerConfig(GroupLearnerConfig):
    """Group relative policy optimization (arXiv 2402.03300) and its family, by TRL's GRPOTrainer."""

    kind: Literal["grpo"] = "grpo"
    loss_type: Literal["dapo", "grpo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"] = "dapo"
    """Loss of a token, and how losses are averaged; docs/algorithms.md has the formulas."""
    advantage: str = "group"
    """What a reward is compared with: the mean of its group (`group`), or of the others in its group (`rloo`).

    `path/to/file.py:name` is a function of your own: from the rewards of a step and the size of a group to as many
    advantages; docs/algorithms.md has an example."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """What advantages are divided by: the standard deviation of the group, of the whole step, or nothing."""
    importance_sampling_level: Literal["token", "sequence"] = "token"
    """One ratio for each token, or (GSPO) for each completion."""

    def advantage_function(self) -> tuple[str, dict[str, Any]]:
        """Computed by rft.learning.advantages, or by the user's function."""
        match self.advantage:
            case "group":
                return "rft.learning.advantages:group_relative", {"scale": self.scale_rewards}
            case "rloo":
                return "rft.learning.advantages:leave_one_out", {}
        return self.advantage, {}

    def user_file(self) -> Path | None:
        """The file with the user's function for the advantages."""
        file, _, _ = self.advantage.rpartition(":")
        return Path(file).expanduser().absolute() if file.endswith(".py") else None

    def with_user_file(self, file: Path) -> Self:
        """The same keys; the function is in this file."""
        return self.model_copy(update={"advantage": f"{file}:{self.advantage.rpartition(':')[2]}"})

    def loss_options(self) -> dict[str, Any]:
        """TRL's names are rft's names."""
        options = {
            "loss_type": self.loss_type,
            "scale_rewards": self.scale_rewards,
            "importance_sampling_level": self.importance_sampling_level,
            "beta": self.beta,
            # Weighing the KL by the ratio gives its exact gradient, token by token; with one ratio for a whole
            # completion it does not.
            "use_bias_correction_kl": self.importance_sampling_level == "token",
        }
        if self.loss_type == "cispo":
            options["epsilon_high"] = self.clip_high or CISPO_CLIP
        return options

    def trl_needs(self) -> dict[str, Need]:
        """As for all groups, and what single losses need."""
        return super().trl_needs() | {
            "delta": Need(self.loss_type in CLIPPED_LOSSES, f"with learner.loss_type={' or '.join(CLIPPED_LOSSES)}"),
            "use_bias_correction_kl": Need(
                self.beta > 0 and self.importance_sampling_level == "token",
                "with learner.beta above 0 and one ratio for each token; a ratio for each completion "
                "(learner.importance_sampling_level=sequence) does not correct the KL's gradient",
            ),
            "sapo_*": Need(self.loss_type == "sapo", "with learner.loss_type=sapo"),
            "vespo_*": Need(self.loss_type == "vespo", "with learner.loss_type=vespo"),
        }

    def problems(self) -> list[str]:
        """Losses, clips and advantages that do not fit together."""
        found = []
        if self.loss_type == "luspo" and self.importance_sampling_level != "sequence":
            found.append(
                "learner.loss_type=luspo: weighs whole completions; use learner.importance_sampling_level=sequence"
            )
        if self.clip_high is not None and self.loss_type in ("sapo", "vespo"):
            found.append(
                f"learner.clip_high={self.clip_high:g}: learner.loss_type={self.loss_type} does not clip; leave it out"
            )
        if self.advantage != "group" and self.scale_rewards != "none":
            found.append(
                f"learner.scale_rewards={self.scale_rewards}: learner.advantage={self.advantage} does not scale "
                "rewards; use learner.scale_rewards=none"
            )
        if self.advantage not in ADVANTAGES:
            found += advantage_problems(self.advantage)
        return found + super().problems()

    def rank_problems(self, *, completions_per_step: int, micro_batches_per_step: int) -> list[str]:
        """Fewer micro-batches than ranks, where they may not be divided."""
        found = super().rank_problems(
            completions_per_step=completions_per_step, micro_batches_per_step=micro_batches_per_step
        )
        # Other losses divide their micro-batches further; here it matters which completions stand together.
        if self.loss_type == "bnpo" and micro_batches_per_step < self.num_workers <= completions_per_step:
            found.insert(
                0,
                f"learner.num_workers={self.num_workers}: with learner.loss_type=bnpo whole micro-batches are shared "
                f"out, and a step has {micro_batches_per_step}; lower learner.num_workers or "
                "learner.completions_per_micro_batch",
            )
        return found
