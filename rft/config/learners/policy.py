"""Keys and checks of the learners that follow a policy gradient, with TRL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from rft.config.fields import Number, Positive
from rft.config.learners.base import LearnerConfig
from rft.config.trl_problems import Need, trl_problems


class PolicyLearnerConfig(LearnerConfig):
    """Keys that GRPO's family and PPO share."""

    target: ClassVar[str] = "rft.learning.trl_learner:TrlLearner"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "peft", "trl")
    trainer: ClassVar[str]
    """The subclass of TRL's trainer, as `module:class`."""
    instead_of_trl: ClassVar[Mapping[str, str]] = {}
    """Keys of this learner by the option of TRL that they replace, if their name differs from that in `grpo`."""

    clip: Annotated[Number, Field(gt=0)] = 0.2
    """Bounds the ratio of new to old probability to `[1 - clip, 1 + clip]`; not used by `cispo`, `sapo` and `vespo`."""
    clip_high: Annotated[Number, Field(gt=0)] | None = None
    """Bounds the ratio to `1 + clip_high` from above instead (DAPO: 0.28); null takes `clip`.

    For `cispo` it is the bound itself, and null takes 5."""
    epochs: Positive = 1
    """Optimizer steps on the completions of a step. With 1, the ratio is 1 and is never clipped."""
    mask_truncated: bool = False
    """Whether the loss excludes completions that were cut at `sampler.max_completion_tokens`."""
    correction: Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] | None = "token_truncate"
    """Importance sampling that corrects for the difference between sampler and learner; null corrects nothing."""
    trl: dict[str, Any] = {}
    """TRL's own `GRPOConfig` options by name, such as `warmup_steps` or `max_grad_norm`.

    rft refuses options that would have no effect."""

    def loss_options(self) -> dict[str, Any]:
        """Return the fields of TRL's `GRPOConfig` that define the algorithm's loss."""
        raise NotImplementedError

    def trl_options(self) -> dict[str, Any]:
        """Return the fields of TRL's `GRPOConfig` for these keys; `trl` overrides the others."""
        options: dict[str, Any] = {
            "epsilon": self.clip,
            "epsilon_high": self.clip_high,
            "mask_truncated_completions": self.mask_truncated,
            "vllm_importance_sampling_correction": self.correction is not None,
        }
        if self.correction is not None:
            options["vllm_importance_sampling_mode"] = self.correction
        return options | self.loss_options() | self.trl

    @property
    def compares_with_start(self) -> bool:
        """Whether each step computes log-probabilities under the start of the run."""
        return bool(self.trl_options().get("beta"))

    def trl_needs(self) -> dict[str, Need]:
        """Return the conditions for TRL's options to have an effect, by name or by prefix (`hub_*`)."""
        trl = self.trl
        adapts = Need(bool(trl.get("use_adaptive_entropy")), "with learner.trl.use_adaptive_entropy=true")
        only_in_grpo = Need(False, "with learner=grpo")
        return {
            "warmup_steps": Need(
                trl.get("lr_scheduler_type") != "constant",
                "with another schedule; use learner.trl.lr_scheduler_type=constant_with_warmup, which is the default",
            ),
            "gradient_checkpointing_kwargs": Need(
                bool(trl.get("gradient_checkpointing")), "with learner.trl.gradient_checkpointing=true"
            ),
            "liger_kernel_config": Need(bool(trl.get("use_liger_kernel")), "with learner.trl.use_liger_kernel=true"),
            "use_bias_correction_kl": only_in_grpo,
            "sapo_*": only_in_grpo,
            "vespo_*": only_in_grpo,
            "sync_ref_model": only_in_grpo,
            "entropy_coef_*": adapts,
            "entropy_target": adapts,
            "vllm_importance_sampling_clip*": Need(self.correction is not None, "with learner.correction"),
            "ref_model_*": Need(bool(trl.get("sync_ref_model")), "with learner.trl.sync_ref_model=true"),
            "hub_*": Need(bool(trl.get("push_to_hub")), "with learner.trl.push_to_hub=true"),
        }

    def problems(self) -> list[str]:
        """Return the problems of TRL's options."""
        return trl_problems(self.trl, needs=self.trl_needs(), keys=type(self).model_fields, instead=self.instead_of_trl)

    def rank_problems(self, *, completions_per_step: int, micro_batches_per_step: int) -> list[str]:
        """Refuse too many ranks, and an entropy bonus that each rank would adapt differently."""
        problems = super().rank_problems(
            completions_per_step=completions_per_step, micro_batches_per_step=micro_batches_per_step
        )
        if self.trl.get("use_adaptive_entropy"):
            problems.append(
                f"learner.num_workers={self.num_workers}: learner.trl.use_adaptive_entropy would adapt differently on "
                "each rank; use learner.num_workers=1"
            )
        return problems
