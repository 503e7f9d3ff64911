"""What a learner is to be, as plain values that travel to the actor which builds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from rft.config import RunConfig
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
class LearnerSpec:
    """A run's configuration, and what the driver found out for the run's learner."""

    run: RunConfig
    """The configuration, without the graders' entries: those may hold secrets, and the learner does not grade."""
    model: Path
    """Folder of the base model."""
    model_name: str
    """What the base model is called in the adapter's configuration."""
    base: Policy
    """The policy that is the base model alone, version 0."""
    run_folder: Path
    """The run folder on the learner's node; checkpoints go below it."""
    completions_per_micro_batch: int
    """Completions in one forward and backward pass."""
    dtype: str
    """float32, bfloat16 or float16."""
    on_gpu: bool
    """Whether to use an NVIDIA GPU."""
    num_threads: int
    """CPU threads."""
    canaries: tuple[tuple[int, ...], ...] = ()
    """`[N][L]` token ids that every publication is scored on."""
    resume_from: Path | None = None
    """Checkpoint folder to go on from."""


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
