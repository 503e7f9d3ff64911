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
    grader_gpus: tuple[float, ...] = ()
    """GPUs of each grader's model."""
    teacher_gpus: float = 0.0
    """GPUs of each of the teacher's actors."""

    @property
    def share_gpus(self) -> bool:
        """Whether samplers or the teacher may be on one GPU with the learner."""
        shares = 0 < self.sampler_gpus < 1 or 0 < self.teacher_gpus < 1
        return shares and 0 < self.learner_gpus < 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Models:
    """The models that score completions, which share the GPUs with the samplers."""

    graders: Sequence[float | None]
    """The configured GPUs of each grader's model; None divides."""
    teachers: Sequence[float | None]
    """The configured GPUs of each of the teacher's actors."""

    @property
    def gpus(self) -> list[float | None]:
        """The configured GPUs of each model."""
        return [*self.graders, *self.teachers]

    @property
    def who(self) -> str:
        """Their name in messages."""
        names = {"models of graders": self.graders, "the teacher's engines": self.teachers}
        return " and ".join(name for name, given in names.items() if given)

    @property
    def keys(self) -> str:
        """The keys of their GPUs."""
        keys = {"graders.<name>.num_gpus": self.graders, "teacher.num_gpus": self.teachers}
        return ", ".join(key for key, given in keys.items() if given)


def share_out(
    sampler: SamplerConfig,
    learner: LearnerConfig | None,
    nodes: Sequence[Node],
    *,
    parallel: int = 1,
    take_turns: bool = False,
    num_learners: int = 1,
    graders: Sequence[float | None] = (),
    teachers: Sequence[float | None] = (),
    min_samplers: int | None = None,
) -> Shares:
    """Divide the GPUs among all processes, and the CPU threads as if all samplers and ranks were on the largest node.

    Each process gets one GPU if there are enough (with tensor parallelism, as many as it spans). Otherwise each rank of
    the learner gets a GPU, and the samplers and models share the other GPUs. If no GPU would remain for the samplers,
    all processes get the largest equal fraction that fits: a half, a third, and so on. Configured values take
    precedence.

    Args:
        sampler: All samplers.
        learner: The learner, with `learner.num_workers` ranks; None without a learner.
        nodes: The nodes whose resources are divided.
        parallel: Number of parallel runs, which first divide the resources equally.
        take_turns: Whether samplers and learner never work at the same time, as at staleness 0.
        num_learners: Number of learners that share the samplers. Each has its own graders.
        graders: The configured GPUs of each grader's model; None divides.
        teachers: The configured GPUs of each of the teacher's actors, which get their share like models of graders.
        min_samplers: Samplers for which there must be enough GPUs; None for all of them.

    Raises:
        ConfigError: The configuration requests more GPUs than available, or fewer than an engine spans; or the samplers
            would share GPUs while whole GPUs remain unused.
    """
    ranks = learner.num_workers * num_learners if learner else 0
    total = sum(node.gpus for node in nodes) // parallel
    models = _Models(graders=graders, teachers=teachers)
    configured = num_learners * sum(gpus or 0.0 for gpus in models.gpus)
    num_models = num_learners * sum(gpus is None for gpus in models.gpus)
    if total and configured >= total:
        _refuse_models_alone(sampler, learner, models, configured, total)
    sampler_gpus, learner_gpus, model_gpus = _gpus_of_each(sampler, learner, ranks, num_models, total - configured)
    needed = sampler.num_actors if min_samplers is None else min_samplers
    of_models = configured + num_models * model_gpus
    _refuse_too_much(sampler, needed, sampler_gpus, learner_gpus, ranks, models, of_models, total)
    if learner is not None:  # a measurement never sleeps
        _refuse_sleep(sampler, sampler_gpus, learner_gpus)
    largest = [max(nodes, key=lambda node: node.cpus)]
    # The samplers of several learners sample for one while another works.
    take_turns = take_turns and num_learners == 1
    threads = threads_of(largest * sampler.num_actors, largest * ranks, parallel=parallel, take_turns=take_turns)
    return Shares(
        sampler_threads=sampler.num_threads or threads[0],
        learner_threads=(learner and learner.num_threads) or threads[1],
        sampler_gpus=sampler_gpus,
        learner_gpus=learner_gpus,
        grader_gpus=tuple(model_gpus if gpus is None else gpus for gpus in graders),
        teacher_gpus=next((model_gpus if gpus is None else gpus for gpus in teachers), 0.0),
    )


def threads_of(
    samplers: Sequence[Node], learner: Sequence[Node], *, parallel: int = 1, take_turns: bool = False
) -> tuple[int, int]:
    """Return the CPU threads of each sampler and rank: the cores of a node divided by its processes.

    Args:
        samplers: The node of each sampler; all get the share on the fullest node.
        learner: The node of each rank; all get the share on the fullest node. Empty without a learner.
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


def _gpus_of_each(
    sampler: SamplerConfig, learner: LearnerConfig | None, ranks: int, num_models: int, total: float
) -> tuple[float, float, float]:
    """Return the GPUs of each sampler, of each rank, and of each grader's model whose share is not configured."""
    spans = sampler.gpus_spanned
    processes = (sampler.num_actors if spans else 0) + ranks + num_models
    sampler_gpus, learner_gpus = sampler.num_gpus, learner.num_gpus if learner else None
    if sampler_gpus is None and learner_gpus is None and spans == 1 and ranks < total < processes:
        share = _shared_by_samplers(sampler.num_actors, ranks, num_models, total)
        return share, 1.0, share
    share = _largest_share(processes, total)
    if sampler_gpus is None:
        sampler_gpus = float(spans) if spans != 1 and total else share
    if learner_gpus is None:
        learner_gpus = min(1.0, total) if spans > 1 else share
    return sampler_gpus, learner_gpus, min(1.0, total) if spans > 1 else share


def _shared_by_samplers(num_actors: int, ranks: int, num_models: int, total: float) -> float:
    """Return the fraction of each sampler and model on the GPUs that the learner leaves."""
    share = _largest_share(num_actors + num_models, total - ranks)
    left = int(total) - ranks
    used = -(-(num_actors + num_models) // round(1 / share))
    if used < left and num_models < left:
        who = [f"{num_actors} samplers"]
        who += [f"{num_models} scoring model(s)"] * (num_models > 0) + [f"{ranks} rank(s) of the learner"] * (ranks > 0)
        raise ConfigError(
            "cluster",
            [
                f"{' and '.join(who)} on {total:g} GPUs: the samplers would share {used} GPU(s) and {left - used} "
                f"would stay unused; set sampler.num_actors={left - num_models}, which gives each process a GPU, or "
                "set sampler.num_gpus and learner.num_gpus"
            ],
        )
    return share


def _largest_share(processes: int, gpus: float) -> float:
    """Return the largest fraction 1/n of a GPU that every process can get, at most 1; 0 without processes or GPUs."""
    if not processes or gpus <= 0:
        return 0.0
    return 1.0 / -(-processes // int(gpus)) if gpus >= 1 else gpus / processes


def _refuse_models_alone(
    sampler: SamplerConfig, learner: LearnerConfig | None, models: _Models, configured: float, total: float
) -> None:
    """Refuse models of graders that take all GPUs from processes whose share is not configured."""
    without = ["sampler"] if sampler.num_gpus is None and sampler.gpus_spanned else []
    without += ["learner"] if learner is not None and learner.num_gpus is None else []
    if without:
        raise ConfigError(
            "cluster",
            [
                f"{models.who} take {configured:g} of {total:g} GPU(s), which leaves none for "
                f"{' and '.join(without)}; lower {models.keys}, or set "
                f"{' and '.join(f'{name}.num_gpus=0' for name in without)} to run on the CPU"
            ],
        )


def _refuse_sleep(sampler: SamplerConfig, sampler_gpus: float, learner_gpus: float) -> None:
    if sampler.sleeps and not (0 < sampler_gpus < 1 and 0 < learner_gpus < 1):
        raise ConfigError(
            "cluster",
            [
                f"sampler.sleep=true: samplers ({sampler_gpus:g} GPUs each) and learner ({learner_gpus:g}) share no "
                "GPU whose memory they could lend each other; remove sampler.sleep"
            ],
        )


def _refuse_too_much(
    sampler: SamplerConfig,
    num_samplers: int,
    sampler_gpus: float,
    learner_gpus: float,
    ranks: int,
    models: _Models,
    model_gpus: float,
    total: float,
) -> None:
    spans = sampler.gpus_spanned
    if spans > 1 and 0 < sampler_gpus < spans:
        raise ConfigError(
            "cluster",
            [
                f"sampler.num_gpus={sampler_gpus:g}: an engine spans {spans} GPUs (sampler.engine.tensor_parallel_size "
                "times pipeline_parallel_size); set as many, or omit sampler.num_gpus"
            ],
        )
    wanted = num_samplers * sampler_gpus + ranks * learner_gpus + model_gpus
    if wanted > total + 1e-9:
        who = f"{num_samplers} sampler(s) with {sampler_gpus:g} GPU(s) each"
        lower = "sampler.num_actors, sampler.num_gpus"
        if ranks == 1:
            who += f" and a learner with {learner_gpus:g}"
        elif ranks:
            who += f" and {ranks} learner ranks with {learner_gpus:g} each"
            lower += ", learner.num_workers"
        if model_gpus:
            who += f", and {models.who} with {model_gpus:g} in all,"
            lower += f", {models.keys}"
        raise ConfigError(
            "cluster",
            [f"{who} want {wanted:g}, but there are {total:g}; lower {lower} or learner.num_gpus (0 runs on the CPU)"],
        )
