"""Nodes by the handful."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rft.cluster import Node


def _node(
    name: str,
    cpus: float,
    gpus: float = 0,
    *,
    free_cpus: float | None = None,
    free_gpus: float | None = None,
    is_drivers: bool = False,
) -> Node:
    return Node(
        id=f"id of {name}",
        name=name,
        cpus=cpus,
        gpus=gpus,
        free_cpus=cpus if free_cpus is None else free_cpus,
        free_gpus=gpus if free_gpus is None else free_gpus,
        is_drivers=is_drivers,
    )


@pytest.fixture(scope="session")
def make_node() -> Callable[..., Node]:
    """`make_node("a", 8, 2, free_gpus=0.5)`: 8 CPUs, all free, and 2 GPUs."""
    return _node
