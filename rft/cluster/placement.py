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
from rft.cluster.seating import Seat, missing, plan_text, there_is, without_late_samplers
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
    """Ray's placement group. Its bundles are the seats that have a node, in order."""
    seats: tuple[Seat, ...]
    """The needs of each process; the last seats may have no node yet."""
    nodes: tuple[Node, ...]
    """The node of each process at the start."""
    late_groups: tuple[Any, ...] = ()
    """A placement group for each seat without a node. Ray places it as soon as there is room."""

    def actor_options(self, index: int) -> dict[str, Any]:
        """Return the options of the Ray actor in a seat."""
        request = self.seats[index]
        return {"num_cpus": request.cpus, "num_gpus": request.gpus, **self.beside(index)}

    def of(self, role: str) -> list[int]:
        """Return the numbers of the seats of a role."""
        return [number for number, seat in enumerate(self.seats) if seat.role == role]

    def nodes_of(self, role: str) -> list[Node]:
        """Return the node of each process of a role that has one."""
        return [self.nodes[number] for number in self.of(role) if number < len(self.nodes)]

    def one_seat_by_node(self, role: str) -> list[int]:
        """Return the number of one seat of a role on each node that has one."""
        seats = zip(self.of(role), self.nodes_of(role), strict=False)  # the last ones may have no node
        return list({node.id: number for number, node in reversed(list(seats))}.values())[::-1]

    def num_gpus_of(self, node: Node) -> int:
        """Return the number of a node's GPUs that the processes use."""
        gpus = sum(seat.gpus for seat, own in zip(self.seats, self.nodes, strict=False) if own.id == node.id)
        return math.ceil(gpus - 1e-9)

    def bundle(self, index: int) -> tuple[Any, int]:
        """Return the placement group of a seat, and the number of its bundle."""
        num_late = index - len(self.nodes)
        return (self.group, index) if num_late < 0 else (self.late_groups[num_late], 0)

    async def until_placed(self, sampler: int) -> None:
        """Wait until a sampler has a node, however long that takes.

        Args:
            sampler: Number of the sampler.
        """
        group, _ = self.bundle(self.of("sampler")[sampler])
        await group.ready()

    def beside(self, index: int) -> dict[str, Any]:
        """Return the options of a Ray actor or task on the node of a seat that uses no resources."""
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        group, bundle = self.bundle(index)
        strategy = PlacementGroupSchedulingStrategy(
            placement_group=group, placement_group_bundle_index=bundle, placement_group_capture_child_tasks=False
        )
        return {"num_cpus": 0, "num_gpus": 0, "scheduling_strategy": strategy}


@asynccontextmanager
async def reserved(
    seats: Sequence[Seat],
    *,
    address: str,
    deadline_s: float,
    tell: Callable[[str], None],
    min_samplers: int,
) -> AsyncIterator[Placement]:
    """Reserve a place for every process for the duration of the block.

    With one placement group, if two runs fit only alone, one gets all places and the other waits. An engine is one
    bundle, which Ray never splits, so tensor parallelism stays within one node.

    If some samplers have no place by the deadline, each of them gets a placement group of its own, for later.

    Args:
        seats: The needs of each process.
        address: Address of the cluster.
        deadline_s: Seconds to wait for resources, or for nodes that have not joined yet.
        tell: Receives the plan, and the seats that do not fit.
        min_samplers: Fewest samplers that must have a place.

    Raises:
        ConfigError: The cluster had too little room before the deadline.
    """
    from ray.util import placement_group_table

    nodes = await nodes_now()
    lacking = missing(seats, nodes)
    if lacking:
        tell(f"cluster {address}: {lacking}; there is {there_is(nodes)}; waiting up to {deadline_s:g} s for room")
    present, late = list(seats), list[Seat]()
    groups = [await _group(present)]
    try:
        try:
            await _until_placed(groups[0], len(present), deadline_s)
        except WaitTimeout as error:
            nodes = await nodes_now()
            present, late = without_late_samplers(seats, nodes)
            if not late or sum(seat.role == "sampler" for seat in present) < min_samplers:
                raise ConfigError("cluster", [_no_room(seats, nodes, address, deadline_s)]) from error
            await _remove(groups)
            groups = [await _group(present)]
            await _until_placed(groups[0], len(present), ANSWER_S)
            groups += [await _group([seat]) for seat in late]  # only now, or they would compete for the room
        table = await blocking(lambda: placement_group_table(groups[0]), what="the placement", deadline_s=ANSWER_S)
        # Nodes may have joined since.
        known = {node.id: node for node in await nodes_now()}
        known |= {node.id: node for node in nodes}
        placed = tuple(known[table["bundles_to_node_id"][index]] for index in range(len(present)))
        tell(plan_text(present, list(known.values()), placed, address))
        yield Placement(group=groups[0], seats=(*present, *late), nodes=placed, late_groups=tuple(groups[1:]))
    finally:
        await _remove(groups)


async def _group(seats: Sequence[Seat]) -> Any:
    """Ask Ray for a placement group of these seats."""
    from ray.util import placement_group

    bundles = [seat.to_bundle() for seat in seats]
    return await blocking(
        lambda: placement_group(bundles, strategy="PACK"), what="a placement group", deadline_s=ANSWER_S
    )


async def _remove(groups: Sequence[Any]) -> None:
    """Free the places of placement groups. Do nothing if the head is dead."""
    import ray
    from ray.exceptions import RayError
    from ray.util import remove_placement_group

    def remove() -> None:
        for group in groups:
            remove_placement_group(group)

    with contextlib.suppress(RayError, ClusterError, WaitTimeout):
        check = partial(check_alive, ray.get_runtime_context().gcs_address, deadline_s=FREE_S)
        await blocking(check, what="the Ray head", deadline_s=FREE_S + 1)
        await blocking(remove, what="the places to be freed", deadline_s=FREE_S)


async def nodes_now() -> list[Node]:
    """Return the current nodes of the connected cluster.

    Raises:
        WaitTimeout: The head did not answer.
    """
    return await blocking(nodes_of_cluster, what="the nodes of the cluster", deadline_s=ANSWER_S)


async def _until_placed(group: Any, num_processes: int, deadline_s: float) -> None:
    async def poll() -> None:
        while not await blocking(lambda: bool(group.wait(POLL_S)), what="a placement group", deadline_s=ANSWER_S):
            pass

    await wait_for(poll(), what=f"room for {num_processes} processes", deadline_s=deadline_s)


def _no_room(seats: Sequence[Seat], nodes: Sequence[Node], address: str, deadline_s: float) -> str:
    lacking = missing(seats, nodes) or "Ray did not find the room that it says is free"
    return (
        f"cluster {address}: {lacking}; after {deadline_s:g} s (cluster.placement_timeout_s) there is "
        f"{there_is(nodes)}; "
        "lower sampler.num_actors, sampler.min_actors, sampler.num_gpus, learner.num_workers or learner.num_gpus, end "
        "what else runs there, or add nodes"
    )
