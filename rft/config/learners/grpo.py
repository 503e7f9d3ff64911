"""`learner=grpo` and its presets: group relative policy optimization and its family."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from rft.config.advantage_problems import advantage_problems
from rft.config.learners.group import GroupLearnerConfig
from rft.config.trl_problems import Need

CISPO_CLIP = 5.0
"""Bound of the ratio in `cispo` without `clip_high`, from TRL's documentation of `epsilon_high`."""
ADVANTAGES = ("group", "rloo")
"""Advantages of rft itself."""
CLIPPED_LOSSES = ("grpo", "dapo", "dr_grpo", "bnpo", "luspo")
"""Losses that clip the ratio."""


class GrpoLearnerConfig(GroupLearnerConfig):
    """Group relative policy optimization (arXiv 2402.03300) and its family, by TRL's GRPOTrainer."""

    kind: Literal["grpo"] = "grpo"
    loss_type: Literal["dapo", "grpo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"] = "dapo"
    """Loss of a token, and how losses are averaged; docs/algorithms.md has the formulas."""
    advantage: str = "group"
    """Baseline of a reward: the mean of its group (`group`), or of the other rewards in its group (`rloo`).

    `path/to/file.py:name` is your own function from the rewards of a step and a group size to one advantage for each
    reward; docs/algorithms.md has an example."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Divisor of advantages: the standard deviation of the group, of the whole step, or none."""
    importance_sampling_level: Literal["token", "sequence"] = "token"
    """One ratio for each token, or (GSPO) for each completion."""

    def advantage_function(self) -> tuple[str, dict[str, Any]]:
        """Return a function of rft.learning.advantages, or the user's function."""
        match self.advantage:
            case "group":
                return "rft.learning.advantages:group_relative", {"scale": self.scale_rewards}
            case "rloo":
                return "rft.learning.advantages:leave_one_out", {}
        return self.advantage, {}

    def user_file(self) -> Path | None:
        """Return the file with the user's advantage function, or None."""
        file, _, _ = self.advantage.rpartition(":")
        return Path(file).expanduser().absolute() if file.endswith(".py") else None

    def with_user_file(self, file: Path) -> Self:
        """Return the same keys with another path of the user's file."""
        return self.model_copy(update={"advantage": f"{file}:{self.advantage.rpartition(':')[2]}"})

    def turn_credit_problems(self, discount: float) -> list[str]:
        """Refuse one ratio for a completion, which would average the advantages of its turns, and own functions."""
        problems = []
        if self.loss_type in ("luspo", "vespo"):
            problems.append(
                f"learner.loss_type={self.loss_type}: weights whole completions; use learner.loss_type=dapo"
            )
        elif self.importance_sampling_level == "sequence":
            problems.append("learner.importance_sampling_level=sequence: weights whole completions; use token")
        if self.advantage not in ADVANTAGES:
            problems.append(
                f"learner.advantage={self.advantage}: returns one advantage for each completion; use "
                f"{' or '.join(ADVANTAGES)}"
            )
        return problems

    def loss_options(self) -> dict[str, Any]:
        """Return the loss options, whose names are equal in TRL and rft."""
        options = {
            "loss_type": self.loss_type,
            "scale_rewards": self.scale_rewards,
            "importance_sampling_level": self.importance_sampling_level,
            "beta": self.beta,
            # With one ratio for each token, weighting the KL term by the ratio gives its exact gradient. With one
            # ratio for a whole completion it does not.
            "use_bias_correction_kl": self.importance_sampling_level == "token",
        }
        if self.loss_type == "cispo":
            options["epsilon_high"] = self.clip_high or CISPO_CLIP
        return options

    def trl_needs(self) -> dict[str, Need]:
        """Add the needs of single losses."""
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
        """Refuse losses, clips and advantages that do not fit together."""
        problems = []
        if self.loss_type == "luspo" and self.importance_sampling_level != "sequence":
            problems.append(
                "learner.loss_type=luspo: weights whole completions; use learner.importance_sampling_level=sequence"
            )
        if self.clip_high is not None and self.loss_type in ("sapo", "vespo"):
            problems.append(
                f"learner.clip_high={self.clip_high:g}: learner.loss_type={self.loss_type} does not clip; "
                "remove learner.clip_high"
            )
        if self.advantage != "group" and self.scale_rewards != "none":
            problems.append(
                f"learner.scale_rewards={self.scale_rewards}: learner.advantage={self.advantage} does not scale "
                "rewards; use learner.scale_rewards=none"
            )
        if self.advantage not in ADVANTAGES:
            problems += advantage_problems(self.advantage)
        return problems + super().problems()

    def rank_problems(self, *, completions_per_step: int, micro_batches_per_step: int) -> list[str]:
        """Refuse more ranks than indivisible micro-batches."""
        problems = super().rank_problems(
            completions_per_step=completions_per_step, micro_batches_per_step=micro_batches_per_step
        )
        # The value of this loss depends on the division into micro-batches; those of other losses are divided further.
        if self.loss_type == "bnpo" and micro_batches_per_step < self.num_workers <= completions_per_step:
            problems.insert(
                0,
                f"learner.num_workers={self.num_workers}: learner.loss_type=bnpo gives each rank whole micro-batches, "
                f"and a step has {micro_batches_per_step}; lower learner.num_workers or "
                "learner.completions_per_micro_batch",
            )
        return problems
