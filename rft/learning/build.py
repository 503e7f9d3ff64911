"""Builds the learner of a spec: the class that the algorithm's configuration names, imported only here."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pkgutil import resolve_name

from rft.imports import large_imports
from rft.learning.spec import LearnerSpec, LocalLearner, RankPlace


def build_learner(spec: LearnerSpec, place: RankPlace | None = None) -> LocalLearner:
    """Build the learner, or one rank of it.

    Args:
        spec: What to build.
        place: Which rank it is; None for the only one.

    Raises:
        RankLost: The other ranks did not come.
    """
    # OpenMP reads this once, when a library loads it.
    os.environ["OMP_NUM_THREADS"] = str(spec.num_threads)
    with large_imports() if spec.run.learner.libraries else nullcontext():
        learner_class = resolve_name(spec.run.learner.target)
    if place is None:
        learner: LocalLearner = learner_class(spec)
        return learner
    from rft.learning.ranks import Ranks

    rank: LocalLearner = learner_class(spec, Ranks.join(place, timeout_s=spec.run.learner.step_timeout_s))
    return rank
