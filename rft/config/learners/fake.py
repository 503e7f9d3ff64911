"""`learner=fake`: a learner that learns nothing."""

from __future__ import annotations

from typing import ClassVar, Literal

from rft.config.learners.base import LearnerConfig


class FakeLearnerConfig(LearnerConfig):
    """Learns nothing and publishes a new version every step, to try out everything else."""

    target: ClassVar[str] = "rft.learning.fake:FakeLearner"
    trains_a_model: ClassVar[bool] = False

    kind: Literal["fake"] = "fake"

    def rank_problems(self, *, completions_per_step: int, micro_batches_per_step: int) -> list[str]:
        """Any ranks at all."""
        return [
            f"learner.num_workers={self.num_workers}: learner=fake computes nothing that could be shared; use "
            "learner.num_workers=1"
        ]
