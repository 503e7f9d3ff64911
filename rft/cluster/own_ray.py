"""Changes which processes Ray starts on this machine for a run, what it waits for, and when they end."""

from __future__ import annotations

import importlib
import random
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rft.cluster import end_with_raylet

if TYPE_CHECKING:
    from ray._private.node import Node

HELPERS = ("start_api_server", "start_monitor", "start_log_monitor")
"""Methods of Ray's `Node` that start processes without use on one machine: the dashboard's server, for which `ray.init`
would wait, the autoscaler, and the forwarding of workers' output to the driver."""

AGENT_COMMAND = "_build_python_executable_command_memory_profileable"
"""Function of Ray's `services` that returns the first words of an agent's command."""

NOT_SERVED = -1
"""Port of a service that Ray's dashboard agent does not offer, which is what it writes in its minimal form."""

PORTS = range(10_000, 32_000)
"""Ports from which `free_port` chooses. Linux and macOS give ports above these to connections."""


@contextmanager
def few_processes() -> Iterator[None]:
    """Make Ray start none of `HELPERS`, not wait for its agents, and let them end together with the raylet.

    The raylet would wait until its agents, two Python programs, have written their ports, and die after 15 s, which is
    too early on a busy machine. Their ports are therefore known before they start. The dashboard agent, which serves
    the dashboard, would import for seconds and take 100 MB. The raylet requires one, so on Linux a process that only
    waits stands in for it; elsewhere it takes its minimal form, which serves neither metrics nor jobs.
    """
    from ray._private import ray_constants, services, utils
    from ray._private.node import Node

    patched = [(Node, name) for name in (*HELPERS, "start_raylet")]
    patched += [(services, AGENT_COMMAND), (utils, "get_dashboard_dependency_error")]
    before = [(owner, name, getattr(owner, name)) for owner, name in patched]
    start, agent_command = Node.start_raylet, getattr(services, AGENT_COMMAND)

    def bound_command(component: str, session_dir: str, unbuffered: bool = True) -> list[str]:
        prefix = _prefix()
        if prefix and component == ray_constants.PROCESS_TYPE_DASHBOARD_AGENT:
            return [*prefix, end_with_raylet.WAIT]
        return [*prefix, *agent_command(component, session_dir, unbuffered)]

    def start_raylet(node: Node, *arguments: Any, **options: Any) -> None:
        _write_ports(node)
        start(node, *arguments, **options)

    for name in HELPERS:
        setattr(Node, name, lambda self, **_: None)
    Node.start_raylet = start_raylet
    setattr(services, AGENT_COMMAND, bound_command)
    utils.get_dashboard_dependency_error = lambda: ImportError("left out")
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def _write_ports(node: Node) -> None:
    """Write the ports of a node's agents, as they do once they run."""
    ray: Any = importlib.import_module("ray._raylet")  # compiled, without types
    for service in (ray.METRICS_AGENT_PORT_NAME, ray.METRICS_EXPORT_PORT_NAME, ray.DASHBOARD_AGENT_LISTEN_PORT_NAME):
        ray.persist_port(node._session_dir, node._node_id, service, NOT_SERVED)
    node._ray_params.update(runtime_env_agent_port=free_port())


def _prefix() -> list[str]:
    """Return the words that bind a command to the raylet; none where the system has no parent-death signal."""
    if not sys.platform.startswith("linux"):
        return []
    return [sys.executable, "-I", "-S", str(Path(end_with_raylet.__file__))]


def free_port() -> int:
    """Return a port of this machine on which nobody listens.

    Raises:
        OSError: None of `PORTS` is free.
    """
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        if _is_free(port):
            return port
    raise OSError(f"none of the ports {PORTS[0]} to {PORTS[-1]} is free; Ray needs one")


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("", port))
        except OSError:
            return False
    return True
