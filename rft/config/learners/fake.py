"""`learner=fake`: a learner that learns nothing."""

from __future__ import annotations

from typing import ClassVar, Literal

from rft.config.learners.base import LearnerConfig


class FakeLearnerConfig(LearnerConfig):
    """Learns nothing and publishes a new version after every step, to test the other parts of a run."""

    target: ClassVar[str] = "rft.learning.fake:FakeLearner"
    trains_a_model: ClassVar[bool] = False

    kind: Literal["fake"] = "fake"

    def rank_problems(self, *, completions_per_step: int, micro_batches_per_step: int) -> list[str]:
        """Refuse several ranks."""
        return [f"learner.num_workers={self.num_workers}: learner=fake has no work to share; use learner.num_workers=1"]
