"""The number of parallel trials: the default, and the limit of a cluster."""

from __future__ import annotations

from collections.abc import Sequence

from rft.cluster import Node
from rft.config import RunConfig
from rft.config.teacher_problems import teacher_gpus
from rft.grading.models.model_grader import requested_gpus

MAX_PARALLEL_PER_NODE = 4
"""Default maximum of parallel trials per machine without a GPU."""


def default_parallel(runs: Sequence[RunConfig], nodes: Sequence[Node], *, share_fleet: bool) -> int:
    """Return the default number of parallel trials.

    With GPUs: the number of trials whose learners (and samplers, unless shared) each get their own GPUs. Without GPUs:
    the number of cores, up to `MAX_PARALLEL_PER_NODE` per node. Twice as many if trials share samplers, because each
    trial is then a learner that waits half of the time.

    Args:
        runs: The trials, or examples of them.
        nodes: The machine, or the nodes of the cluster.
        share_fleet: Whether the trials share their samplers.
    """
    gpus = sum(node.gpus for node in nodes)
    if gpus:
        fit = min(_fit(gpus, *_gpus(run), share_fleet=share_fleet) for run in runs)
        if fit < _WITHOUT_END:
            return max(1, fit)
    of_core = 2 if share_fleet else 1
    return max(1, sum(min(of_core * int(node.cpus), MAX_PARALLEL_PER_NODE) for node in nodes))


def room_for(runs: Sequence[RunConfig], nodes: Sequence[Node], *, share_fleet: bool) -> int:
    """Return the number of trials that fit on a cluster, with one CPU for each of their processes; at least 1.

    A trial that does not fit alone fails when it requests its place.
    """
    cpus = sum(int(node.cpus) for node in nodes)
    sizes = [(run.sampler.num_actors, num_own_processes(run)) for run in runs]
    return max(1, min(_fit(cpus, *each, share_fleet=share_fleet) for each in sizes))


def num_own_processes(run: RunConfig) -> int:
    """Return the number of a trial's processes besides its samplers: ranks, graders' models, and teacher's actors."""
    return run.learner.num_workers + len(requested_gpus(run.graders)) + len(teacher_gpus(run))


_WITHOUT_END = 10**9


def _gpus(run: RunConfig) -> tuple[float, float]:
    """Return the GPUs that all samplers of a trial can use, and those of its learner, graders' models and teacher."""
    sampler, learner = run.sampler, run.learner
    of_each = sampler.gpus_spanned if sampler.num_gpus is None else sampler.num_gpus
    of_rank = 1.0 if learner.num_gpus is None else learner.num_gpus
    of_models = sum(1.0 if gpus is None else gpus for gpus in [*requested_gpus(run.graders), *teacher_gpus(run)])
    return sampler.num_actors * of_each, learner.num_workers * of_rank + of_models


def _fit(total: float, samplers: float, learner: float, *, share_fleet: bool) -> int:
    """Return the number of trials whose needs fit into `total`."""
    rest, each = (total - samplers, learner) if share_fleet else (total, samplers + learner)
    return int(rest / each + 1e-9) if each else _WITHOUT_END
