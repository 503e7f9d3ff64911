"""Prepares a cluster for a run: connection, a place for each process, and the base model on every node."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rft.cluster.free_memory import device_here
from rft.cluster.model_source import ModelSource
from rft.cluster.nodes import Node, this_machine
from rft.cluster.placement import Placement, nodes_now, reserved
from rft.cluster.seating import Seat, idle_gpus_warning
from rft.cluster.session import LOCAL, ray_ahead, ray_session, starts_ray
from rft.cluster.shares import Shares, share_out, threads_of
from rft.config import EvaluateConfig, RunConfig
from rft.config.teacher_problems import teacher_gpus
from rft.errors import ClusterError, ConfigError, WaitTimeout
from rft.grading.models.model_grader import requested_gpus
from rft.imports import vllm_needs_gpu
from rft.memory import Device

if TYPE_CHECKING:
    from rft.cluster.mirrored_learner import Mirror

NO_GPU_FOR_VLLM = (
    "sampler.num_gpus=0: the installed vLLM is the build for GPUs and cannot run on a CPU; give the samplers a GPU, "
    "use sampler=transformers, or install the build for CPUs: pip install 'rft[cpu]'"
)

Part = Literal["all", "samplers", "learner"]
"""The processes of a run that a workplace contains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """The places of a run's processes."""

    shares: Shares
    """CPU threads and GPUs of each process."""
    model: Path
    """Folder of the base model, the same on every node."""
    sampler_options: tuple[dict[str, Any], ...]
    """Options of each sampler's Ray actor."""
    learner_options: tuple[dict[str, Any], ...]
    """Options of the Ray actor of each rank of the learner; none where there is no learner."""
    mirrors: tuple[Mirror | None, ...]
    """Mirror of each rank's node, which transfers files if the node does not share the run folder."""
    device: Device
    """The free memory before the processes start: of this machine, or of the nodes of a cluster."""
    grader_options: tuple[dict[str, Any], ...] = ()
    """Options of the Ray actor of each grader's model."""
    teacher_models: tuple[Path, ...] = ()
    """Folder of each teacher's model, the same on every node."""
    teacher_options: tuple[dict[str, Any], ...] = ()
    """Options of the Ray actor of each of the teachers' engines, teacher by teacher."""
    teacher_nodes: tuple[str, ...] = ()
    """Name of each such actor's node; empty if all processes run on this machine."""
    sampler_nodes: tuple[str, ...] = ()
    """Name of each sampler's node; empty if all processes run on this machine."""
    learner_node: str = ""
    """Name of the node of a learner of one process; empty if it runs on this machine. Ranks name their hosts."""
    prepare_replacement: Callable[[int], Awaitable[str]] | None = None
    """Prepares the node of a sampler's replacement and returns the node's name; None if all run on this machine."""
    prepare_teachers: tuple[Callable[[int], Awaitable[str]], ...] = ()
    """Does the same for a replacement of one of a teacher's actors; empty if all run on this machine."""
    environment_options: tuple[dict[str, Any], ...] = ()
    """Options of a Ray actor without resources on each node that has a sampler."""
    num_late_samplers: int = 0
    """Number of samplers, the last ones, that have no place yet."""
    until_placed: Callable[[int], Awaitable[None]] | None = None
    """Waits until a sampler has a place; None if all run on this machine."""


@asynccontextmanager
async def workplace(
    config: RunConfig | EvaluateConfig,
    *,
    model: Path,
    fingerprint: str,
    teachers: Sequence[ModelSource] = (),
    tell: Callable[[str], None] = lambda text: None,
    warn: Callable[[str], None] = lambda text: None,
    address: str | None = None,
    parallel: int = 1,
    part: Part = "all",
) -> AsyncIterator[Workplace]:
    """Connect, reserve places and prepare nodes; release everything at the end.

    Args:
        config: A checked configuration.
        model: Folder of the base model on this machine.
        fingerprint: Fingerprint of the base model.
        teachers: The model of each teacher.
        tell: Receives the plan if the cluster has other machines.
        warn: Receives a warning if the run leaves GPUs unused.
        address: Address of an open `ray_session`; None opens one.
        parallel: Number of equal runs that share the session.
        part: Processes to place: all of a run, only the samplers that several runs share, or only a run's learner.

    Raises:
        ConfigError: The cluster has no room, or a node lacks something.
        ClusterError: The cluster cannot be reached, or a node failed.
        WaitTimeout: A wait exceeded its deadline.
    """
    numbers = _num_processes(config, part)
    session = nullcontext(address) if address else ray_session(config.cluster, num_processes=sum(numbers))
    async with session as address:
        nodes = await nodes_now()
        is_local = address == LOCAL
        shares = _shared(config, nodes, parallel=parallel, part=part, may_start_with_fewer=not is_local)
        seats = _seats(shares, *numbers)
        if parallel == 1 and (warning := idle_gpus_warning(seats, nodes)):
            warn(warning)
        async with reserved(
            seats,
            address=address,
            deadline_s=config.cluster.placement_timeout_s,
            tell=(lambda text: None) if is_local else tell,
            min_samplers=numbers[0] if is_local else config.sampler.min_actors,
        ) as placement:
            if part == "all":
                shares = _with_threads(shares, placement, parallel=parallel, take_turns=_take_turns(config))
            place = _placed(placement, config, model, shares, is_local=is_local)
            place = replace(place, teacher_models=tuple(teacher.folder for teacher in teachers))
            if not is_local:
                place = await _prepared(place, placement, config, fingerprint, teachers)
            try:
                yield place
            finally:
                for mirror in filter(None, dict.fromkeys(place.mirrors)):
                    with contextlib.suppress(ClusterError, WaitTimeout):  # the node is gone, with its files
                        await mirror.remove()


def _seats(shares: Shares, num_samplers: int, num_ranks: int, num_models: int, num_teachers: int) -> list[Seat]:
    """Return the needs of the samplers, the learner's ranks, the graders' models, and the teacher's actors."""
    return [
        *[Seat(role="sampler", cpus=1, gpus=shares.sampler_gpus)] * num_samplers,
        *[Seat(role="learner", cpus=1, gpus=shares.learner_gpus)] * num_ranks,
        *[Seat(role="grader", cpus=1, gpus=gpus) for gpus in shares.grader_gpus[:num_models]],
        *[Seat(role="teacher", cpus=1, gpus=shares.teacher_gpus)] * num_teachers,
    ]


def _shared(
    config: RunConfig | EvaluateConfig,
    nodes: Sequence[Node],
    *,
    parallel: int,
    part: Part,
    may_start_with_fewer: bool = False,
) -> Shares:
    of_all, in_common = (parallel, 1) if part == "all" else (1, parallel)
    return share_out(
        config.sampler,
        config.learner if isinstance(config, RunConfig) else None,
        nodes,
        parallel=of_all,
        take_turns=_take_turns(config),
        num_learners=in_common,
        graders=requested_gpus(config.graders),
        teachers=teacher_gpus(config) if isinstance(config, RunConfig) else (),
        min_samplers=config.sampler.min_actors if may_start_with_fewer else config.sampler.num_actors,
    )


def _take_turns(config: RunConfig | EvaluateConfig) -> bool:
    return isinstance(config, RunConfig) and config.loop.staleness == 0


def _with_threads(shares: Shares, placement: Placement, *, parallel: int, take_turns: bool) -> Shares:
    """Return the shares with the CPU threads of the nodes that Ray chose."""
    samplers, ranks = placement.nodes_of("sampler"), placement.nodes_of("learner")
    threads = threads_of(samplers, ranks, parallel=parallel, take_turns=take_turns)
    return replace(shares, sampler_threads=threads[0], learner_threads=threads[1])


def _placed(
    placement: Placement, config: RunConfig | EvaluateConfig, model: Path, shares: Shares, *, is_local: bool
) -> Workplace:
    """Return the workplace with the options of each process's Ray actor."""
    samplers, ranks, models, teachers = (
        tuple(placement.actor_options(number) for number in placement.of(role))
        for role in ("sampler", "learner", "grader", "teacher")
    )
    learner_threads = config.learner.num_threads if isinstance(config, RunConfig) else None
    return Workplace(
        shares=replace(
            shares,
            sampler_threads=config.sampler.num_threads or shares.sampler_threads,
            learner_threads=learner_threads or shares.learner_threads,
        ),
        model=model,
        sampler_options=samplers,
        learner_options=ranks,
        mirrors=(None,) * len(ranks),
        device=device_here(placement.num_gpus_of(placement.nodes[0])),  # of a local Ray, which has one node
        grader_options=models,
        teacher_options=teachers,
        teacher_nodes=() if is_local else tuple(node.name for node in placement.nodes_of("teacher")),
        sampler_nodes=() if is_local else tuple(node.name for node in placement.nodes_of("sampler")),
        environment_options=tuple(map(placement.beside, placement.one_seat_by_node("sampler"))),
        num_late_samplers=len(placement.late_groups),
        until_placed=None if is_local else placement.until_placed,
        learner_node="" if is_local or len(ranks) != 1 else placement.nodes_of("learner")[0].name,
    )


async def _prepared(
    place: Workplace,
    placement: Placement,
    config: RunConfig | EvaluateConfig,
    fingerprint: str,
    teachers: Sequence[ModelSource],
) -> Workplace:
    """Return the workplace with the models on the nodes that need them, and mirrors of the ranks' folders."""
    # These import Ray, which the core does not install.
    from rft.cluster.preparation import prepare_nodes, prepare_replacement

    again = partial(prepare_replacement, placement=placement, config=config)
    model, mirrors, device = await prepare_nodes(
        placement, config, model=place.model, fingerprint=fingerprint, teachers=teachers
    )
    prepared = replace(
        place,
        model=model,
        mirrors=mirrors,
        device=device,
        prepare_replacement=partial(again, path=config.model.path, model=place.model, fingerprint=fingerprint),
    )
    if not isinstance(config, RunConfig):
        return prepared
    return replace(
        prepared,
        teacher_models=tuple(model.with_name(teacher.fingerprint) for teacher in teachers),  # beside the base model
        prepare_teachers=tuple(
            partial(
                again,
                path=teacher.path,
                model=teacher.folder,
                fingerprint=teacher.fingerprint,
                role="teacher",
                first=number * config.teacher.num_actors,
            )
            for number, teacher in enumerate(teachers)
        ),
    )


@contextmanager
def ray_ahead_for(config: RunConfig | EvaluateConfig) -> Iterator[None]:
    """Start the Ray of a run while its prompts are rendered; open its `workplace` within the block."""
    with ray_ahead(config.cluster, num_processes=sum(_num_processes(config))):
        yield


def _num_processes(config: RunConfig | EvaluateConfig, part: Part = "all") -> tuple[int, int, int, int]:
    """Return the number of samplers, of the learner's ranks, of the graders' models, and of the teachers' actors."""
    num_samplers = 0 if part == "learner" else config.sampler.num_actors
    if part == "samplers":
        return num_samplers, 0, 0, 0
    num_models = len(requested_gpus(config.graders))
    if not isinstance(config, RunConfig):
        return num_samplers, 0, num_models, 0
    return num_samplers, config.learner.num_workers, num_models, len(teacher_gpus(config))


def idle_gpus_here(config: RunConfig | EvaluateConfig) -> str | None:
    """Describe the GPUs of this machine that a run would leave unused; None on a cluster, or if it uses all.

    Raises:
        ConfigError: Like `refuse_early`.
    """
    shares, numbers = shares_here(config), _num_processes(config)
    return None if shares is None else idle_gpus_warning(_seats(shares, *numbers), [this_machine(sum(numbers))])


def shares_here(config: RunConfig | EvaluateConfig) -> Shares | None:
    """Return the share of each process on this machine; None if the run uses a cluster that exists already.

    Raises:
        ConfigError: The configuration requests more GPUs than available.
    """
    if not starts_ray(config.cluster):
        return None
    return _shared(config, [this_machine(sum(_num_processes(config)))], parallel=1, part="all")


def refuse_early(config: RunConfig | EvaluateConfig) -> None:
    """Check the resources of this machine before anything is written; a cluster is checked later.

    Raises:
        ConfigError: The configuration requests more GPUs than available, or vLLM would have no GPU although it needs
            one.
    """
    shares = shares_here(config)
    if shares and not shares.sampler_gpus and "vllm" in config.sampler.libraries and vllm_needs_gpu():
        raise ConfigError("cluster", [NO_GPU_FOR_VLLM])
