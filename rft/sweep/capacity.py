"""How many trials run at the same time: what is taken where nothing is said, and what a cluster has room for."""

from __future__ import annotations

from collections.abc import Sequence

from rft.cluster import Node
from rft.config import RunConfig

MAX_PARALLEL_PER_NODE = 4
"""Trials at a time on a machine without a GPU, where nothing else is said and there are as many cores."""


def default_parallel(runs: Sequence[RunConfig], nodes: Sequence[Node], *, share_fleet: bool) -> int:
    """How many trials run at the same time where nothing is said.

    With GPUs, as many as can have a learner, and samplers where they are not shared, with GPUs of their own; without,
    as many as there are cores, up to `MAX_PARALLEL_PER_NODE` a node; twice as many where they share their samplers, for
    then a trial is a learner that half of the time waits.

    Args:
        runs: The trials, or what stands for them.
        nodes: The machine, or those of the cluster.
        share_fleet: Whether they share their samplers.
    """
    gpus = sum(node.gpus for node in nodes)
    if gpus:
        fit = min(_fit(gpus, *_gpus(run), share_fleet=share_fleet) for run in runs)
        if fit < _WITHOUT_END:
            return max(1, fit)
    of_core = 2 if share_fleet else 1
    return max(1, sum(min(of_core * int(node.cpus), MAX_PARALLEL_PER_NODE) for node in nodes))


def room_for(runs: Sequence[RunConfig], nodes: Sequence[Node], *, share_fleet: bool) -> int:
    """How many trials there is room for on a cluster, where each sampler and each rank takes a CPU; at least 1.

    One that does not fit alone is told so when it asks for its place.
    """
    cpus = sum(int(node.cpus) for node in nodes)
    wanted = [(run.sampler.num_actors, run.learner.num_workers) for run in runs]
    return max(1, min(_fit(cpus, *each, share_fleet=share_fleet) for each in wanted))


_WITHOUT_END = 10**9


def _gpus(run: RunConfig) -> tuple[float, float]:
    """GPUs that all samplers of a trial want, and its learner, where they are given as many as they can use."""
    sampler, learner = run.sampler, run.learner
    of_each = sampler.gpus_spanned if sampler.num_gpus is None else sampler.num_gpus
    of_rank = 1.0 if learner.num_gpus is None else learner.num_gpus
    return sampler.num_actors * of_each, learner.num_workers * of_rank


def _fit(total: float, samplers: float, learner: float, *, share_fleet: bool) -> int:
    """How many trials find what they need among `total`."""
    rest, each = (total - samplers, learner) if share_fleet else (total, samplers + learner)
    return int(rest / each + 1e-9) if each else _WITHOUT_END
