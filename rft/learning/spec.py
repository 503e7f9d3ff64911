"""What a learner is to be, as plain values that travel to the actor which builds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from rft.types import GradedGroup, Policy, Publication

COMPLETE = "complete.json"
"""Written last into a checkpoint; one without it was interrupted."""


Backend = Literal["gloo", "nccl"]
"""What adds up the gradients of ranks: `nccl` on a GPU for each, `gloo` in the main memory."""


class LocalLearner(Protocol):
    """A learner in this process. Its methods block."""

    @property
    def steps_done(self) -> int:
        """Optimizer steps taken so far, those before a resume included."""

    def learn(self, groups: Sequence[GradedGroup]) -> dict[str, float]:
        """Take one optimizer step on these groups; return the learner's metrics.

        Raises:
            LearnError: A rollout is of a policy that this learner did not publish, or of one that is too old.
        """

    def publish(self) -> Publication:
        """The policy as it stands, as version `steps_done`."""

    def history(self) -> list[Publication]:
        """What was published last, oldest first and ending with the newest: `staleness` + 1 versions, or all there are.

        A run that goes on from a checkpoint samples the batches that were under way under exactly these. The base model
        is not among them; a sampler has it before anything is loaded.
        """

    def checksum(self) -> int:
        """A number that is the same for learners whose trained weights are equal bit for bit."""

    def save(self) -> None:
        """Write a checkpoint from which `resume_from` goes on."""

    def close(self) -> None:
        """End."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """The adapter that is trained."""

    rank: int
    """Rank of the update."""
    alpha: float
    """Scaling: the update is multiplied by `alpha / rank`."""
    dropout: float
    """Dropout on the adapter's input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ppo:
    """What PPO has beside the options of TRL."""

    gamma: float
    """Discount for each token."""
    gae_lambda: float
    """Of generalized advantage estimation."""
    kl_coef: float
    """Weight of the KL divergence from the base model in each token's reward."""
    value_clip: float
    """How far a value may move from what it was."""
    value_learning_rate: float
    """Of the value function's own optimizer."""
    value_updates: int
    """Its optimizer steps on each batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerSpec:
    """Everything that building a learner takes."""

    kind: Literal["grpo", "ppo", "fake"]
    """Which learner."""
    model: Path
    """Folder of the base model."""
    model_name: str
    """What the base model is called in the adapter's configuration."""
    base: Policy
    """The policy that is the base model alone, version 0."""
    chat_template: str | None
    """File with a chat template, for a tokenizer that has none."""
    run_folder: Path
    """The run folder; checkpoints go below it."""
    steps: int
    """Optimizer steps of the whole run."""
    prompts_per_step: int
    """Groups in each step."""
    completions_per_prompt: int
    """Completions in each group."""
    completions_per_micro_batch: int
    """Completions in one forward and backward pass."""
    max_completion_tokens: int
    """Longest completion."""
    temperature: float
    """At which the completions were sampled; log-probabilities are taken at the same."""
    learning_rate: float
    """Peak learning rate."""
    lora: Lora | None
    """The adapter; None trains every weight of the model."""
    seed: int
    """Of the adapter's start and of everything random in training."""
    dtype: str
    """float32, bfloat16 or float16."""
    on_gpu: bool
    """Whether an NVIDIA GPU is to be used."""
    num_threads: int
    """CPU threads."""
    keep_checkpoints: int
    """Older ones are removed."""
    timeout_s: float
    """Deadline for one optimizer step, seconds."""
    epochs: int = 1
    """Optimizer steps on each batch."""
    advantage: Literal["group", "rloo"] = "group"
    """What a reward is compared with: the mean of its group, or of the others of its group."""
    ppo: Ppo | None = None
    """For `kind="ppo"`."""
    staleness: int = 0
    """Versions that a rollout's policy may lag behind the learner."""
    canaries: tuple[tuple[int, ...], ...] = ()
    """`[N][L]` token ids that every publication is scored on."""
    resume_from: Path | None = None
    """Checkpoint folder to go on from."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """TRL's own options by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPlace:
    """Which of several ranks a process is, and where it finds the others.

    Example:
        RankPlace(number=1, of=2, address="10.0.0.1:40213", host="10.0.0.2", backend="gloo")
    """

    number: int
    """From 0; rank 0 publishes and writes checkpoints."""
    of: int
    """How many there are."""
    address: str
    """`host:port` of the store that rank 0 opened."""
    host: str
    """Address at which the other ranks reach this one."""
    backend: Backend
    """What adds up the gradients."""
