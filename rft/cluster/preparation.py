"""Prepares the nodes of a cluster for a run: checks their libraries, sends the base model, mirrors checkpoints."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util import placement_group_table

from rft.cluster.file_transfer import ask, send
from rft.cluster.free_memory import together
from rft.cluster.mirrored_learner import Mirror
from rft.cluster.model_source import ModelSource
from rft.cluster.node_agent import NodeKeeper
from rft.cluster.nodes import Node
from rft.cluster.placement import ANSWER_S, POLL_S, Placement, nodes_now
from rft.cluster.versions import libraries_of, version_problems, version_reader
from rft.config import EvaluateConfig, RunConfig
from rft.config.clusters import AttachClusterConfig
from rft.errors import ClusterError, ConfigError
from rft.memory import Device
from rft.models.package_models import PREFIX
from rft.waiting import blocking


async def prepare_nodes(
    placement: Placement,
    config: RunConfig | EvaluateConfig,
    *,
    model: Path,
    fingerprint: str,
    teachers: Sequence[ModelSource] = (),
) -> tuple[Path, tuple[Mirror | None, ...], Device]:
    """Check every node, send the models to nodes that lack them, and detect file systems shared with the driver.

    Args:
        placement: The places of all processes.
        config: A checked configuration.
        model: Folder of the base model on this machine.
        fingerprint: Of the base model.
        teachers: The models of the teachers. They lie beside the base model on the nodes of all teachers.

    Returns:
        The folder of the base model, the same on every node, and for each rank of the learner a mirror, or None where
        its node sees the run folder; and the nodes' free memory.

    Raises:
        ConfigError: A node lacks a library, or has another version.
        ClusterError: A node failed.
        WaitTimeout: A node did not answer in time.
    """
    cluster = config.cluster if isinstance(config.cluster, AttachClusterConfig) else AttachClusterConfig()
    folder = folder_on_nodes(config)
    first = {node.id: index for index, node in reversed(list(enumerate(placement.nodes)))}
    nodes = {node.id: node for node in placement.nodes}
    await _check_versions(placement, first, nodes, _needed_libraries(placement, first, config), config)
    keepers = {
        id: ray.remote(NodeKeeper).options(**placement.beside(index)).remote(folder) for id, index in first.items()
    }
    deadline_s = cluster.transfer_timeout_s
    await _provide_model(list(keepers.values()), config.model.path, model, fingerprint, deadline_s)
    of_teachers = [keepers[id] for id in {node.id for node in placement.nodes_of("teacher")}]
    for teacher in teachers:
        if teacher.fingerprint != fingerprint:
            await _provide_model(of_teachers, teacher.path, teacher.folder, teacher.fingerprint, deadline_s)
    devices = await ask(
        [keeper.device.remote(placement.num_gpus_of(nodes[id])) for id, keeper in keepers.items()],
        what=f"{len(keepers)} node(s) to report their free memory",
        deadline_s=cluster.start_timeout_s,
    )
    ranks = [node.id for node in placement.nodes_of("learner")]
    mirrors: dict[str, Mirror | None] = {}
    if isinstance(config, RunConfig) and ranks:
        run_folder = Path(config.output_dir).absolute()
        mirrors = await _mirrors({id: keepers[id] for id in ranks}, folder, run_folder, deadline_s)
    return Path(folder) / "models" / fingerprint, tuple(mirrors[id] for id in ranks), together(devices)


async def prepare_replacement(
    number: int,
    *,
    placement: Placement,
    config: RunConfig | EvaluateConfig,
    path: str | None,
    model: Path,
    fingerprint: str,
    role: str = "sampler",
    first: int = 0,
) -> str:
    """Prepare the node of a sampler's replacement. If the sampler's node is gone, wait until Ray finds another one.

    Args:
        number: Number of the sampler.
        placement: The places of all processes.
        config: A checked configuration.
        path: Path of its model in the configuration.
        model: Folder of its model on this machine.
        fingerprint: Of its model.
        role: `sampler`, or `teacher` for one of a teacher's actors.
        first: Number of earlier actors of this role, those of other teachers.

    Returns:
        The name of the node.

    Raises:
        ConfigError: The node lacks a library, or has another version.
        ClusterError: The node failed.
        WaitTimeout: No node had room in time, or it did not answer.
    """
    cluster = config.cluster if isinstance(config.cluster, AttachClusterConfig) else AttachClusterConfig()
    index = placement.of(role)[first + number]
    keeper = await _placed_keeper(placement, index, folder_on_nodes(config), config.sampler.replacement_timeout_s)
    group, bundle = placement.bundle(index)
    table = await blocking(lambda: placement_group_table(group), what="the placement", deadline_s=ANSWER_S)
    node = next((one for one in await nodes_now() if one.id == table["bundles_to_node_id"][bundle]), None)
    if node is None:
        raise ClusterError(f"the node that Ray chose for {role} {number} died")
    if node.id in [one.id for one in placement.nodes_of(role)]:
        return node.name
    needed = libraries_of(config.sampler, None, has_model_grader=False)
    await _check_versions(placement, {node.id: index}, {node.id: node}, {node.id: needed}, config)
    await _provide_model([keeper], path, model, fingerprint, cluster.transfer_timeout_s)
    return node.name


async def _placed_keeper(placement: Placement, index: int, folder: str, deadline_s: float) -> Any:
    """Start a keeper on the node of a seat. If that node is gone, wait until Ray has found another one.

    Ray cancels the keeper if it notices only then that the node is gone, so this starts another keeper.
    """
    ends_s = time.monotonic() + deadline_s
    while True:
        keeper = ray.remote(NodeKeeper).options(**placement.beside(index)).remote(folder)
        left_s = ends_s - time.monotonic()
        try:
            await ask(
                [keeper.exists.remote(os.sep)],
                what="a node with room (sampler.replacement_timeout_s)",
                deadline_s=left_s,
            )
        except ClusterError:
            if time.monotonic() + POLL_S >= ends_s:
                raise
            await asyncio.sleep(POLL_S)
        else:
            return keeper


def folder_on_nodes(config: RunConfig | EvaluateConfig) -> str:
    """Return the folder for all files that rft stores on a node."""
    cluster = config.cluster if isinstance(config.cluster, AttachClusterConfig) else AttachClusterConfig()
    return cluster.node_folder or os.path.join(tempfile.gettempdir(), f"rft-{os.getuid()}")


async def _provide_model(
    keepers: Sequence[Any], path: str | None, model: Path, fingerprint: str, deadline_s: float
) -> None:
    """Send a model to the nodes that lack it; `path` is its path in the configuration."""
    # A node would restore the model of a package anew, perhaps with other libraries.
    is_folder = Path(path or "").expanduser().exists() or (path or "").startswith(PREFIX)
    has_model = await ask(
        [
            keeper.find_model.remote(str(model.resolve()), None if is_folder else path, fingerprint)
            for keeper in keepers
        ],
        what=f"{len(keepers)} node(s) to search for the model {path or model}",
        deadline_s=deadline_s,
    )
    lacking = {
        f"arriving/{uuid.uuid4().hex}": keeper for keeper, has in zip(keepers, has_model, strict=True) if not has
    }
    if lacking:
        await send_model(lacking, model, fingerprint, deadline_s)


def _needed_libraries(
    placement: Placement, first: Mapping[str, int], config: RunConfig | EvaluateConfig
) -> dict[str, Any]:
    """Return the libraries that the processes of each node need."""
    learner_nodes, sampler_nodes, grader_nodes, teacher_nodes = (
        {node.id for node in placement.nodes_of(role)} for role in ("learner", "sampler", "grader", "teacher")
    )
    return {
        id: libraries_of(
            config.sampler if id in sampler_nodes | teacher_nodes else None,
            config.learner if isinstance(config, RunConfig) and id in learner_nodes else None,
            has_model_grader=id in grader_nodes,
        )
        for id in first
    }


async def _check_versions(
    placement: Placement,
    first: Mapping[str, int],
    nodes: Mapping[str, Node],
    needed: Mapping[str, Any],
    config: RunConfig | EvaluateConfig,
) -> None:
    """Refuse nodes whose rft or libraries are missing or differ from the driver's; report all nodes together."""
    answers = await ask(
        [
            ray.remote(version_reader(needed[id])).options(**placement.beside(index), max_retries=0).remote()
            for id, index in first.items()
        ],
        what=f"{len(first)} node(s) to report their versions",
        deadline_s=config.cluster.start_timeout_s,
    )
    problems = []
    for id, versions in zip(first, answers, strict=True):
        problems += version_problems(nodes[id].name, versions, version_reader(needed[id])(), needed[id])
    if problems:
        raise ConfigError("cluster", problems)


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
