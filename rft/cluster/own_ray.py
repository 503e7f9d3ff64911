"""Changes which processes Ray starts on this machine for a run, and when they end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HELPERS = ("start_api_server", "start_monitor", "start_log_monitor")
"""Methods of Ray's `Node` that start processes without use on one machine: the dashboard's server, for which `ray.init`
would wait, the autoscaler, and the forwarding of workers' output to the driver."""


@contextmanager
def few_processes() -> Iterator[None]:
    """Make Ray start none of `HELPERS`, and let its agents end together with the raylet."""
    from ray._private import services
    from ray._private.node import Node

    helpers = {name: getattr(Node, name) for name in HELPERS}
    agent_command = services._build_python_executable_command_memory_profileable

    def bound_command(component: str, session_dir: str, unbuffered: bool = True) -> list[str]:
        return [*_prefix(), *agent_command(component, session_dir, unbuffered)]

    for name in HELPERS:
        setattr(Node, name, lambda self, **_: None)
    services._build_python_executable_command_memory_profileable = bound_command
    try:
        yield
    finally:
        services._build_python_executable_command_memory_profileable = agent_command
        for name, method in helpers.items():
            setattr(Node, name, method)


def _prefix() -> list[str]:
    """Return the words that bind a command to the raylet; none where the system has no parent-death signal."""
    if not sys.platform.startswith("linux"):
        return []
    return [sys.executable, "-I", "-S", str(Path(__file__).with_name("end_with_raylet.py"))]
