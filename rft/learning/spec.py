"""The spec of a learner, as plain values that the driver sends to the learner's actor; and the learner's protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from rft.config import RunConfig
from rft.types import Adapter, GradedGroup, Logprobs, Policy, Publication

COMPLETE = "complete.json"
"""The last file written into a checkpoint; a checkpoint without it is incomplete."""


Backend = Literal["gloo", "nccl"]
"""Backend that sums the gradients of ranks: `nccl` between GPUs, one for each rank; `gloo` in main memory."""


class LocalLearner(Protocol):
    """A learner in this process. Its methods block."""

    @property
    def steps_done(self) -> int:
        """Completed optimizer steps, including those before a resume."""

    def learn(self, groups: Sequence[GradedGroup]) -> dict[str, float]:
        """Take one optimizer step on these groups; return the learner's metrics.

        Raises:
            LearnError: A rollout has a policy that this learner did not publish, or that is too old.
        """

    def start_logprobs(self, count: int) -> list[list[float] | None]:
        """Return log-probabilities under the start of the run, of the first completions of the last step.

        Args:
            count: Most completions.

        Returns:
            `[count][C]` numbers at the sampler's temperature, 0 for tokens that the policy did not sample; None for a
            completion that the learner did not compare. Empty if the step compared none.
        """

    def publish(self) -> Publication:
        """Return the current policy as version `steps_done`."""

    def policy(self) -> Policy:
        """Return version and fingerprint of the current policy. It costs less than `publish`: no canary is scored."""

    def start_publication(self) -> Publication | None:
        """Return the adapter that the run started from, as version 0; None if it started from the base model."""

    def base_canary_logprobs(self) -> Logprobs:
        """Return the base model's scores of the canaries; empty without a model."""

    def history(self) -> list[Publication]:
        """Return the last `staleness + 1` publications, or all if there are fewer, oldest first.

        A resumed run samples the interrupted batches with them again. The base model is not included; samplers have it
        from the start.
        """

    def checksum(self) -> int:
        """Return a number that is equal for learners whose trained weights are equal bit for bit."""

    def release_memory(self) -> None:
        """Give memory of the GPU that is reserved but unused back to other processes."""

    def save(self) -> None:
        """Write a checkpoint for `resume_from`."""

    def close(self) -> None:
        """End the trainer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerSpec:
    """A run's configuration, and the facts that the driver determined for the learner."""

    run: RunConfig
    """The configuration without the graders' entries, which may hold secrets and which the learner does not need."""
    model: Path
    """Folder of the base model."""
    model_name: str
    """Name of the base model in the adapter's configuration."""
    base: Policy
    """The policy of the base model, version 0."""
    run_folder: Path
    """The run folder on the learner's node; it receives the checkpoints."""
    completions_per_micro_batch: int
    """Completions in one forward and backward pass."""
    gradient_checkpointing: bool = False
    """Whether the backward pass computes activations again instead of keeping them."""
    dtype: str
    """float32, bfloat16 or float16."""
    on_gpu: bool
    """Whether to use an NVIDIA GPU."""
    gpu_share: float = 1.0
    """Share of the GPU's memory that the learner can use."""
    num_threads: int
    """CPU threads."""
    canaries: tuple[tuple[int, ...], ...] = ()
    """`[N][L]` token ids, scored for every publication."""
    start: Adapter | None = None
    """The adapter that is version 0; `run.start_mode` says whether to train it further. None for the base model."""
    resume_from: Path | None = None
    """Checkpoint folder to resume from."""

    @property
    def version_0(self) -> Policy:
        """The policy that the run starts from: that of `start`, or the base model."""
        return self.base if self.start is None else self.start.policy


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPlace:
    """The number of a rank, and the addresses through which ranks find each other.

    Example:
        RankPlace(number=1, of=2, address="10.0.0.1:40213", host="10.0.0.2", backend="nccl", gpu="3")
    """

    number: int
    """From 0; rank 0 publishes and writes checkpoints."""
    of: int
    """Number of ranks."""
    address: str
    """`host:port` of the store that rank 0 opened."""
    host: str
    """Address at which the other ranks reach this one."""
    backend: Backend
    """Backend that sums the gradients."""
    gpu: str | None = None
    """Number of the rank's GPU on its host; None without a GPU."""

    @property
    def name(self) -> str:
        """Name of the rank for messages, such as `rank 1 of 2 of the learner (10.0.0.2, GPU 3)`."""
        return f"{rank_name(self.number, self.of)} ({self.host}{f', GPU {self.gpu}' if self.gpu else ''})"


def rank_name(number: int, of: int) -> str:
    """Return the name of a rank whose place is unknown."""
    return f"rank {number} of {of} of the learner"
