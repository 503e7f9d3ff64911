"""Divides CPUs and GPUs among the processes of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rft.cluster.nodes import Node
from rft.config.learners.base import LearnerConfig
from rft.config.samplers.base import SamplerConfig
from rft.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """The share of each process of a run."""

    sampler_threads: int
    """CPU threads of each sampler."""
    learner_threads: int
    """CPU threads of each rank of the learner."""
    sampler_gpus: float
    """GPUs of each sampler."""
    learner_gpus: float
    """GPUs of each rank of the learner."""


def share_out(
    sampler: SamplerConfig,
    learner: LearnerConfig | None,
    nodes: Sequence[Node],
    *,
    parallel: int = 1,
    take_turns: bool = False,
    num_learners: int = 1,
) -> Shares:
    """Divide the GPUs among samplers and learner, and the CPU threads as if all processes were on the largest node.

    Each process gets one GPU if there are enough (with tensor parallelism, as many as it spans). Otherwise all get the
    largest equal fraction that fits: a half, a third, and so on. Configured values take precedence.

    Args:
        sampler: All samplers.
        learner: The learner, with `learner.num_workers` ranks; None without a learner.
        nodes: The nodes whose resources are divided.
        parallel: Number of parallel runs, which first divide the resources equally.
        take_turns: Whether samplers and learner never work at the same time, as at staleness 0.
        num_learners: Number of learners that share the samplers.

    Raises:
        ConfigError: The configuration requests more GPUs than available, or fewer than an engine spans.
    """
    spans = sampler.gpus_spanned
    ranks = learner.num_workers * num_learners if learner else 0
    processes = sampler.num_actors + ranks
    total = sum(node.gpus for node in nodes) // parallel
    on_gpus = processes if spans else ranks
    share = 1.0 / -(-on_gpus // int(total)) if total and on_gpus else 0.0
    sampler_gpus = sampler.num_gpus
    if sampler_gpus is None:
        sampler_gpus = float(spans) if spans != 1 and total else share
    learner_gpus = learner.num_gpus if learner else None
    if learner_gpus is None:
        learner_gpus = min(1.0, total) if spans > 1 else share
    _refuse_too_much(sampler, sampler_gpus, learner_gpus, ranks, spans, total)
    largest = max(nodes, key=lambda node: node.cpus)
    if num_learners > 1:  # samplers of one run sample while the learner of another works
        threads = (max(1, int(largest.cpus) // parallel // processes),) * 2
    else:
        threads = threads_of(
            [largest] * sampler.num_actors, [largest] * ranks, parallel=parallel, take_turns=take_turns
        )
    return Shares(
        sampler_threads=sampler.num_threads or threads[0],
        learner_threads=(learner and learner.num_threads) or threads[1],
        sampler_gpus=sampler_gpus,
        learner_gpus=learner_gpus,
    )


def threads_of(
    samplers: Sequence[Node], learner: Sequence[Node], *, parallel: int = 1, take_turns: bool = False
) -> tuple[int, int]:
    """Return the CPU threads of each sampler and rank: the cores of a node divided by its processes.

    Args:
        samplers: The node of each sampler; all get the share on the fullest node.
        learner: The node of each rank, likewise; empty without a learner.
        parallel: Number of equal runs at the same time.
        take_turns: Whether samplers and learner never work at the same time: each side then gets all cores.
    """
    if take_turns and learner:
        return _threads(samplers, samplers, parallel), _threads(learner, learner, parallel)
    of_samplers = _threads(samplers, [*samplers, *learner], parallel)
    return of_samplers, _threads(learner, [*samplers, *learner], parallel) if learner else of_samplers


def _threads(side: Sequence[Node], at_work: Sequence[Node], parallel: int) -> int:
    processes = Counter(node.id for node in at_work)
    return min(max(1, int(node.cpus) // parallel // processes[node.id]) for node in side)


def _refuse_too_much(
    sampler: SamplerConfig, sampler_gpus: float, learner_gpus: float, ranks: int, spans: int, total: float
) -> None:
    if spans > 1 and 0 < sampler_gpus < spans:
        raise ConfigError(
            "cluster",
            [
                f"sampler.num_gpus={sampler_gpus:g}: an engine spans {spans} GPUs (sampler.engine.tensor_parallel_size "
                "times pipeline_parallel_size); set as many, or omit sampler.num_gpus"
            ],
        )
    wanted = sampler.num_actors * sampler_gpus + ranks * learner_gpus
    if wanted > total + 1e-9:
        who = f"{sampler.num_actors} sampler(s) with {sampler_gpus:g} GPU(s) each"
        lower = "sampler.num_actors, sampler.num_gpus"
        if ranks == 1:
            who += f" and a learner with {learner_gpus:g}"
        elif ranks:
            who += f" and {ranks} learner ranks with {learner_gpus:g} each"
            lower += ", learner.num_workers"
        raise ConfigError(
            "cluster",
            [f"{who} want {wanted:g}, but there are {total:g}; lower {lower} or learner.num_gpus (0 runs on the CPU)"],
        )
