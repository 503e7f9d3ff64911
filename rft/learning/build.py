"""Builds the learner of a spec: the one place that imports the learners."""

from __future__ import annotations

import os

from rft.imports import large_imports
from rft.learning.spec import LearnerSpec, LocalLearner, RankPlace


def build_learner(spec: LearnerSpec, place: RankPlace | None = None) -> LocalLearner:
    """Build the learner, or one rank of it, importing its libraries only now.

    Raises:
        RankLost: The other ranks did not come.
    """
    os.environ["OMP_NUM_THREADS"] = str(spec.num_threads)
    if spec.kind in ("grpo", "ppo"):
        with large_imports():
            from rft.learning.grpo import GrpoLearner
            from rft.learning.ranks import Ranks

        return GrpoLearner(spec, Ranks() if place is None else Ranks.join(place, timeout_s=spec.timeout_s))
    from rft.learning.fake import FakeLearner

    return FakeLearner(spec)
