"""The nodes of a cluster and their free resources."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass

from rft.errors import WaitTimeout

LIST_GPUS_S = 60.0
"""Seconds that the driver has to list its GPUs; it may have to start first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node of a Ray cluster.

    Example:
        Node(id="4f1c...", name="gpu-1", cpus=8, gpus=2, free_cpus=8, free_gpus=1, is_drivers=False)
    """

    id: str
    """Ray's id of the node."""
    name: str
    """Name in messages, unique in the cluster."""
    cpus: float
    """CPUs that Ray manages."""
    gpus: float
    """GPUs that Ray manages."""
    free_cpus: float
    """Free CPUs."""
    free_gpus: float
    """Free GPUs."""
    is_drivers: bool = False
    """Whether the driver runs on this node."""


def num_gpus_here() -> int:
    """Return the number of NVIDIA GPUs that the driver of this machine reports.

    Raises:
        WaitTimeout: The driver did not list its GPUs in time.
    """
    if shutil.which("nvidia-smi") is None:
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    devices = [name for name in os.listdir("/dev") if name.startswith("nvidia") and name[6:].isdigit()]
    # On Windows (WSL2) the driver of the host serves the GPUs, which have no devices here.
    return len(devices) or _num_gpus_listed()


def _num_gpus_listed() -> int:
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=LIST_GPUS_S, check=False)
    except subprocess.TimeoutExpired:
        raise WaitTimeout("nvidia-smi -L to list the GPUs (run it in a terminal)", LIST_GPUS_S) from None
    # One line for each GPU, such as "GPU 0: NVIDIA H200 (UUID: GPU-...)"; indented lines list its partitions.
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def this_machine(num_processes: int) -> Node:
    """Return this machine as the node of a local Ray, which assigns each process a CPU even if there are fewer."""
    cpus, gpus = max(num_processes, os.cpu_count() or 1), num_gpus_here()
    return Node(id="", name="this machine", cpus=cpus, gpus=gpus, free_cpus=cpus, free_gpus=gpus, is_drivers=True)


def nodes_of_cluster() -> list[Node]:
    """Return the live nodes of the connected cluster, the head first, then by name. Blocks."""
    import ray
    from ray._private.state import available_resources_per_node

    drivers = ray.get_runtime_context().get_node_id()
    free = available_resources_per_node()
    alive = sorted(
        (node for node in ray.nodes() if node["Alive"]),
        key=lambda node: ("node:__internal_head__" not in node["Resources"], node["NodeName"], node["NodeID"]),
    )
    names = Counter(node["NodeName"] for node in alive)
    return [
        Node(
            id=node["NodeID"],
            name=node["NodeName"] if names[node["NodeName"]] == 1 else f"{node['NodeName']} ({node['NodeID'][:6]})",
            cpus=node["Resources"].get("CPU", 0.0),
            gpus=node["Resources"].get("GPU", 0.0),
            free_cpus=free.get(node["NodeID"], {}).get("CPU", 0.0),
            free_gpus=free.get(node["NodeID"], {}).get("GPU", 0.0),
            is_drivers=node["NodeID"] == drivers,
        )
        for node in alive
    ]
