"""Prepares a cluster for a run: connection, a place for each process, and the base model on every node."""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rft.cluster.mirrored_learner import Mirror
from rft.cluster.nodes import Node, this_machine
from rft.cluster.placement import Placement, nodes_now, reserved
from rft.cluster.seating import Seat
from rft.cluster.session import LOCAL, ray_ahead, ray_session, starts_ray
from rft.cluster.shares import Shares, share_out, threads_of
from rft.cluster.transfer import ask, send
from rft.cluster.versions import libraries_of, version_problems, version_reader
from rft.config import EvaluateConfig, RunConfig
from rft.config.schema import AttachClusterConfig
from rft.errors import ClusterError, ConfigError, WaitTimeout

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
    sampler_nodes: tuple[str, ...] = ()
    """Name of each sampler's node; empty if all processes run on this machine."""


@asynccontextmanager
async def workplace(
    config: RunConfig | EvaluateConfig,
    *,
    model: Path,
    fingerprint: str,
    tell: Callable[[str], None] = lambda text: None,
    address: str | None = None,
    parallel: int = 1,
    part: Part = "all",
) -> AsyncIterator[Workplace]:
    """Connect, reserve places and prepare nodes; release everything at the end.

    Args:
        config: A checked configuration.
        model: Folder of the base model on this machine.
        fingerprint: Fingerprint of the base model.
        tell: Receives the plan if the cluster has other machines.
        address: Address of an open `ray_session`; None opens one.
        parallel: Runs that go on in that session at the same time, each like this one.
        part: Which processes: all of a run, or the samplers that such runs have in common, or a run's learner without
            them.

    Raises:
        ConfigError: The cluster has no room, or a node lacks something.
        ClusterError: The cluster cannot be reached, or a node failed.
        WaitTimeout: A wait exceeded its deadline.
    """
    sampler, learner = config.sampler, config.learner if isinstance(config, RunConfig) else None
    num_samplers = 0 if part == "learner" else sampler.num_actors
    num_ranks = learner.num_workers if learner is not None and part != "samplers" else 0
    num_processes = num_samplers + num_ranks
    session = nullcontext(address) if address else ray_session(config.cluster, num_processes=num_processes)
    async with session as address:
        nodes = await nodes_now()
        take_turns = isinstance(config, RunConfig) and config.loop.staleness == 0
        of_all, in_common = (parallel, 1) if part == "all" else (1, parallel)
        shares = share_out(sampler, learner, nodes, parallel=of_all, take_turns=take_turns, num_learners=in_common)
        seats = [Seat(role="sampler", cpus=1, gpus=shares.sampler_gpus)] * num_samplers
        seats += [Seat(role="learner", cpus=1, gpus=shares.learner_gpus)] * num_ranks
        is_local = address == LOCAL
        async with reserved(
            seats,
            address=address,
            deadline_s=config.cluster.placement_timeout_s,
            tell=(lambda text: None) if is_local else tell,
        ) as placement:
            if part == "all":
                samplers, ranks = placement.nodes[:num_samplers], placement.nodes[num_samplers:]
                threads = threads_of(samplers, ranks, parallel=parallel, take_turns=take_turns)
                shares = replace(shares, sampler_threads=threads[0], learner_threads=threads[1])
            place = _placed(placement, config, model, shares, num_samplers, is_local=is_local)
            if not is_local:
                place = await _prepared(place, placement, config, fingerprint, num_samplers)
            try:
                yield place
            finally:
                for mirror in filter(None, dict.fromkeys(place.mirrors)):
                    with contextlib.suppress(ClusterError, WaitTimeout):  # the node is gone, with its files
                        await mirror.remove()


def _placed(
    placement: Placement,
    config: RunConfig | EvaluateConfig,
    model: Path,
    shares: Shares,
    num_samplers: int,
    *,
    is_local: bool,
) -> Workplace:
    """The samplers in the first seats, and the ranks of the learner in the others."""
    num_ranks = len(placement.seats) - num_samplers
    learner_threads = config.learner.num_threads if isinstance(config, RunConfig) else None
    return Workplace(
        shares=replace(
            shares,
            sampler_threads=config.sampler.num_threads or shares.sampler_threads,
            learner_threads=learner_threads or shares.learner_threads,
        ),
        model=model,
        sampler_options=tuple(placement.actor_options(index) for index in range(num_samplers)),
        learner_options=tuple(placement.actor_options(num_samplers + rank) for rank in range(num_ranks)),
        mirrors=(None,) * num_ranks,
        sampler_nodes=() if is_local else tuple(node.name for node in placement.nodes[:num_samplers]),
    )


@contextmanager
def ray_ahead_for(config: RunConfig | EvaluateConfig) -> Iterator[None]:
    """Start the Ray of a run while its prompts are rendered; open its `workplace` within the block."""
    with ray_ahead(config.cluster, num_processes=_num_processes(config)):
        yield


def _num_processes(config: RunConfig | EvaluateConfig) -> int:
    return config.sampler.num_actors + (config.learner.num_workers if isinstance(config, RunConfig) else 0)


def refuse_early(config: RunConfig | EvaluateConfig) -> None:
    """Check the resources of this machine before anything is written; a cluster is checked later.

    Raises:
        ConfigError: The configuration requests more GPUs than available.
    """
    learner = config.learner if isinstance(config, RunConfig) else None
    if starts_ray(config.cluster):
        share_out(config.sampler, learner, [this_machine(_num_processes(config))])


async def _prepared(
    place: Workplace,
    placement: Placement,
    config: RunConfig | EvaluateConfig,
    fingerprint: str,
    num_samplers: int,
) -> Workplace:
    """Check every node, send the base model to nodes that lack it, and detect file systems shared with the driver."""
    import ray

    from rft.cluster.node_agent import NodeKeeper

    cluster = config.cluster if isinstance(config.cluster, AttachClusterConfig) else AttachClusterConfig()
    folder = cluster.node_folder or os.path.join(tempfile.gettempdir(), f"rft-{os.getuid()}")
    first = {node.id: index for index, node in reversed(list(enumerate(placement.nodes)))}
    nodes = {node.id: node for node in placement.nodes}
    await _check_versions(placement, first, nodes, config, num_samplers)
    keepers = {
        id: ray.remote(NodeKeeper).options(**placement.beside(index)).remote(folder) for id, index in first.items()
    }
    deadline_s = cluster.transfer_timeout_s
    model = str(place.model.resolve())
    name = None if Path(config.model.path or "").expanduser().exists() else config.model.path
    found = await ask(
        [keeper.find_model.remote(model, name, fingerprint) for keeper in keepers.values()],
        what=f"{len(keepers)} node(s) to search for the base model",
        deadline_s=deadline_s,
    )
    lacking = {
        f"arriving/{uuid.uuid4().hex}": keeper for keeper, has in zip(keepers.values(), found, strict=True) if not has
    }
    if lacking:
        await send_model(lacking, place.model, fingerprint, deadline_s)
    ranks = [node.id for node in placement.nodes[num_samplers:]]
    mirrors: dict[str, Mirror | None] = {}
    if isinstance(config, RunConfig) and ranks:
        run_folder = Path(config.output_dir).absolute()
        mirrors = await _mirrors({id: keepers[id] for id in ranks}, folder, run_folder, deadline_s)
    return replace(place, model=Path(folder) / "models" / fingerprint, mirrors=tuple(mirrors[id] for id in ranks))


async def _check_versions(
    placement: Placement,
    first: dict[str, int],
    nodes: dict[str, Node],
    config: RunConfig | EvaluateConfig,
    num_samplers: int,
) -> None:
    """Refuse nodes whose rft or libraries are missing or differ from the driver's; report all nodes together."""
    import ray

    learner_nodes = {node.id for node in placement.nodes[num_samplers:]}
    sampler_nodes = {node.id for node in placement.nodes[:num_samplers]}
    needed = {
        id: libraries_of(
            config.sampler if id in sampler_nodes else None,
            config.learner.kind if isinstance(config, RunConfig) and id in learner_nodes else None,
        )
        for id in first
    }
    answers = await ask(
        [
            ray.remote(version_reader(needed[id])).options(**placement.beside(index), max_retries=0).remote()
            for id, index in first.items()
        ],
        what=f"{len(first)} node(s) to report their versions",
        deadline_s=config.cluster.start_timeout_s,
    )
    found = []
    for id, there in zip(first, answers, strict=True):
        found += version_problems(nodes[id].name, there, version_reader(needed[id])(), needed[id])
    if found:
        raise ConfigError("cluster", found)


async def send_model(keepers: dict[str, Any], model: Path, fingerprint: str, deadline_s: float) -> None:
    """Send the base model to nodes, which check its fingerprint."""
    files = {file.name: file for file in sorted(model.iterdir()) if file.is_file()}
    await send(keepers, files, deadline_s=deadline_s)
    checked = await ask(
        [keeper.check_model.remote(received, fingerprint) for received, keeper in keepers.items()],
        what=f"{len(keepers)} node(s) to check the base model",
        deadline_s=deadline_s,
    )
    if wrong := [other for other in checked if other is not None]:
        raise ClusterError(
            f"the base model arrived on {len(wrong)} node(s) with fingerprint {wrong[0]}, not {fingerprint}; "
            f"has {model} changed meanwhile?"
        )


async def _mirrors(
    keepers: dict[str, Any], folder: str, run_folder: Path, deadline_s: float
) -> dict[str, Mirror | None]:
    """Return a mirror for each node; None for nodes that share the run folder."""
    marker = run_folder / f".{uuid.uuid4().hex}"
    marker.touch()
    try:
        answers = await ask(
            [keeper.exists.remote(str(marker)) for keeper in keepers.values()],
            what="the learner's node to look for the run folder",
            deadline_s=deadline_s,
        )
    finally:
        marker.unlink()
    return {
        id: None
        if is_shared
        else Mirror(keeper, node_folder=folder, run=uuid.uuid4().hex, run_folder=run_folder, deadline_s=deadline_s)
        for (id, keeper), is_shared in zip(keepers.items(), answers, strict=True)
    }
