"""Every key of `learner`, with its type, its default and its meaning."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from rft.config.fields import Number, Positive, PositiveSeconds, Section, Share, Whole


class LoraConfig(Section):
    """The adapter: LoRA on all linear layers."""

    rank: Annotated[Whole, Field(ge=1, le=512)] = 16
    """Rank of the update."""
    alpha: Annotated[Number, Field(gt=0)] = 32.0
    """Scaling: the update is multiplied by `alpha / rank`."""
    dropout: Share = 0.0
    """Dropout on the adapter's input."""


class LearnerConfig(Section):
    """What all learners share."""

    learning_rate: Annotated[Number, Field(gt=0)] = 1e-5
    """Peak learning rate."""
    lora: LoraConfig | None = LoraConfig()
    """The adapter that is trained; null trains every weight of the model."""
    completions_per_micro_batch: Positive | None = None
    """Completions in one forward and backward pass if all were as long as the longest; of shorter ones there are more.

    null takes the largest divisor of a step's completions up to 8 on a CPU, and up to 16,384 tokens on a GPU.
    """
    num_workers: Positive = 1
    """Number of ranks: processes that train together, each with the whole model and a share of every step."""
    num_threads: Positive | None = None
    """CPU threads of each rank; null takes all cores at staleness 0, where engines and learner take turns, and a share
    of them otherwise."""
    num_gpus: Annotated[Number, Field(ge=0)] | None = None
    """GPUs of each rank, or a fraction to share one; null divides the GPUs of the cluster."""
    start_timeout_s: PositiveSeconds = 600.0
    """Seconds allowed for loading the model."""
    step_timeout_s: PositiveSeconds = 1800.0
    """Seconds allowed for one optimizer step, and for a checkpoint."""


class PolicyLearnerConfig(LearnerConfig):
    """What GRPO's family and PPO share."""

    clip: Annotated[Number, Field(gt=0)] = 0.2
    """Bounds the ratio of new to old probability to `[1 - clip, 1 + clip]`; not used by `cispo`, `sapo` and `vespo`."""
    clip_high: Annotated[Number, Field(gt=0)] | None = None
    """Bounds the ratio to `1 + clip_high` from above instead (DAPO: 0.28); null takes `clip`.

    For `cispo` it is the bound itself, and null takes 5."""
    epochs: Positive = 1
    """Optimizer steps on the completions of a step; with 1 the ratio is 1, and nothing is clipped."""
    mask_truncated: bool = False
    """Whether completions that were cut at `sampler.max_completion_tokens` are left out of the loss."""
    correction: Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] | None = "token_truncate"
    """Importance sampling that corrects for the difference between sampler and learner; null corrects nothing."""
    trl: dict[str, Any] = {}
    """TRL's own `GRPOConfig` options by name, such as `warmup_steps` or `max_grad_norm`.

    Options that would do nothing in rft are refused."""


class GrpoLearnerConfig(PolicyLearnerConfig):
    """Group relative policy optimization (arXiv 2402.03300) and its family, by TRL's GRPOTrainer."""

    kind: Literal["grpo"] = "grpo"
    loss_type: Literal["dapo", "grpo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"] = "dapo"
    """Loss of a token, and how losses are averaged; docs/algorithms.md has the formulas."""
    advantage: Literal["group", "rloo"] = "group"
    """What a reward is compared with: the mean of its group (`group`), or of the others in its group (`rloo`)."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """What advantages are divided by: the standard deviation of the group, of the whole step, or nothing."""
    importance_sampling_level: Literal["token", "sequence"] = "token"
    """One ratio for each token, or (GSPO) for each completion."""
    beta: Annotated[Number, Field(ge=0)] = 0.0
    """Weight of the KL divergence from the base model in the loss; docs/algorithms.md has its formula."""


class PpoLearnerConfig(PolicyLearnerConfig):
    """Proximal policy optimization (arXiv 1707.06347) with a learned value function."""

    kind: Literal["ppo"] = "ppo"
    gamma: Annotated[Number, Field(gt=0, le=1)] = 1.0
    """Discount factor per token."""
    gae_lambda: Annotated[Number, Field(ge=0, le=1)] = 0.95
    """Lambda of generalized advantage estimation (arXiv 1506.02438): 1 trusts the rewards, 0 the value function."""
    kl_coef: Annotated[Number, Field(ge=0)] = 0.0
    """Weight of the KL divergence from the base model, subtracted from each token's reward."""
    value_clip: Annotated[Number, Field(gt=0)] = 0.2
    """Largest change of a value from the one that the step began with."""
    value_learning_rate: Annotated[Number, Field(gt=0)] = 1e-3
    """Learning rate of the value function."""
    value_updates: Positive = 8
    """Optimizer steps of the value function on the completions of a step."""


class FakeLearnerConfig(LearnerConfig):
    """Learns nothing and publishes a new version every step, to try out everything else."""

    kind: Literal["fake"] = "fake"
