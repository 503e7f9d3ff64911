"""Builds the learner of a spec. Only this file imports the class that the algorithm's configuration names."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pkgutil import resolve_name

from rft.imports import large_imports, prepare_bitsandbytes
from rft.learning.spec import LearnerSpec, LocalLearner, RankPlace

RANK_SHARE = 0.9
"""Share of the step's time that ranks wait for each other, so that they name a lost rank before the step times out."""


def build_learner(spec: LearnerSpec, place: RankPlace | None = None) -> LocalLearner:
    """Build the learner, or one rank of the learner.

    Args:
        spec: Spec of the learner.
        place: Number and addresses of the rank; None for a learner of one process.

    Raises:
        RankLost: Another rank did not join in time.
    """
    # OpenMP reads this variable only once, when it is loaded.
    os.environ["OMP_NUM_THREADS"] = str(spec.num_threads)
    if not spec.on_gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray hides no GPU from an actor without one
    if spec.on_gpu:
        # Micro-batches differ in shape; segments that grow leave no gaps of the wrong size. torch reads this once.
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    if spec.run.learner.libraries:
        prepare_bitsandbytes(is_used=spec.run.learner.base is not None)
    with large_imports() if spec.run.learner.libraries else nullcontext():
        learner_class = resolve_name(spec.run.learner.target)
    if place is None:
        learner: LocalLearner = learner_class(spec)
        return learner
    from rft.learning.ranks import Ranks

    timeout_s = RANK_SHARE * spec.run.learner.step_timeout_s
    rank: LocalLearner = learner_class(spec, Ranks.join(place, timeout_s=timeout_s))
    return rank
