"""Reserves places for all processes of a run in one placement group, and always frees it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from rft.cluster.head_check import check_alive
from rft.cluster.nodes import Node, nodes_of_cluster
from rft.cluster.seating import Seat, missing, plan_text, there_is
from rft.errors import ClusterError, ConfigError, WaitTimeout
from rft.waiting import blocking, wait_for

POLL_S = 0.5
ANSWER_S = 60.0
"""Deadline of a request to Ray's head, in seconds."""
FREE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The reserved places of a run."""

    group: Any
    """Ray's placement group. Its bundles are the seats, in order."""
    seats: tuple[Seat, ...]
    """The needs of each process."""
    nodes: tuple[Node, ...]
    """The node of each process."""

    def actor_options(self, index: int) -> dict[str, Any]:
        """Return the options of the Ray actor in a seat."""
        request = self.seats[index]
        return {"num_cpus": request.cpus, "num_gpus": request.gpus, **self.beside(index)}

    def of(self, role: str) -> list[int]:
        """Return the numbers of the seats of a role."""
        return [number for number, seat in enumerate(self.seats) if seat.role == role]

    def nodes_of(self, role: str) -> list[Node]:
        """Return the node of each process of a role."""
        return [self.nodes[number] for number in self.of(role)]

    def num_gpus_of(self, node: Node) -> int:
        """Return the number of a node's GPUs that the processes use."""
        gpus = sum(seat.gpus for seat, own in zip(self.seats, self.nodes, strict=True) if own.id == node.id)
        return math.ceil(gpus - 1e-9)

    def beside(self, index: int) -> dict[str, Any]:
        """Return the options of a Ray actor or task on the node of a seat that uses no resources."""
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        strategy = PlacementGroupSchedulingStrategy(
            placement_group=self.group, placement_group_bundle_index=index, placement_group_capture_child_tasks=False
        )
        return {"num_cpus": 0, "num_gpus": 0, "scheduling_strategy": strategy}


@asynccontextmanager
async def reserved(
    seats: Sequence[Seat], *, address: str, deadline_s: float, tell: Callable[[str], None]
) -> AsyncIterator[Placement]:
    """Reserve a place for every process for the duration of the block.

    With one placement group, if two runs fit only alone, one gets all places and the other waits. An engine is one
    bundle, which Ray never splits, so tensor parallelism stays within one node.

    Args:
        seats: The needs of each process.
        address: Address of the cluster.
        deadline_s: Seconds to wait for resources, or for nodes that have not joined yet.
        tell: Receives the plan, and the seats that do not fit.

    Raises:
        ConfigError: The cluster had no room for all processes before the deadline.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util import placement_group, placement_group_table, remove_placement_group

    nodes = await nodes_now()
    lacking = missing(seats, nodes)
    if lacking:
        tell(f"cluster {address}: {lacking}; there is {there_is(nodes)}; waiting up to {deadline_s:g} s for room")
    group = await blocking(
        lambda: placement_group([request.to_bundle() for request in seats], strategy="PACK"),
        what="a placement group",
        deadline_s=ANSWER_S,
    )
    try:
        try:
            await wait_for(_until_placed(group), what=f"room for {len(seats)} processes", deadline_s=deadline_s)
        except WaitTimeout as error:
            nodes = await nodes_now()
            raise ConfigError("cluster", [_no_room(seats, nodes, address, deadline_s)]) from error
        table = await blocking(lambda: placement_group_table(group), what="the placement", deadline_s=ANSWER_S)
        # Nodes may have joined since.
        known = {node.id: node for node in await nodes_now()}
        known |= {node.id: node for node in nodes}
        placed = tuple(known[table["bundles_to_node_id"][index]] for index in range(len(seats)))
        tell(plan_text(seats, list(known.values()), placed, address))
        yield Placement(group=group, seats=tuple(seats), nodes=placed)
    finally:
        with contextlib.suppress(RayError, ClusterError, WaitTimeout):  # the head is dead, so nothing remains to free
            check = partial(check_alive, ray.get_runtime_context().gcs_address, deadline_s=FREE_S)
            await blocking(check, what="the Ray head", deadline_s=FREE_S + 1)
            await blocking(lambda: remove_placement_group(group), what="the places to be freed", deadline_s=FREE_S)


async def nodes_now() -> list[Node]:
    """Return the current nodes of the connected cluster.

    Raises:
        WaitTimeout: The head did not answer.
    """
    return await blocking(nodes_of_cluster, what="the nodes of the cluster", deadline_s=ANSWER_S)


async def _until_placed(group: Any) -> None:
    while not await blocking(lambda: bool(group.wait(POLL_S)), what="a placement group", deadline_s=ANSWER_S):
        pass


def _no_room(seats: Sequence[Seat], nodes: Sequence[Node], address: str, deadline_s: float) -> str:
    lacking = missing(seats, nodes) or "Ray did not find the room that it says is free"
    return (
        f"cluster {address}: {lacking}; after {deadline_s:g} s (cluster.placement_timeout_s) there is "
        f"{there_is(nodes)}; "
        "lower sampler.num_actors, sampler.num_gpus, learner.num_workers or learner.num_gpus, end what else runs "
        "there, or add nodes"
    )
