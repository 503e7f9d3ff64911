"""Compares the needs of a run with the resources of each node, before anything starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rft.cluster.nodes import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """The resources that one process needs on one node.

    Example:
        Seat(role="sampler", cpus=1, gpus=2)
    """

    role: str
    """`sampler`, `learner`, `grader` for a grader's model, or `teacher`."""
    cpus: float
    """CPUs to reserve."""
    gpus: float
    """GPUs to reserve."""

    def to_bundle(self) -> dict[str, float]:
        """Return the seat as a bundle of a placement group."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})

    def __str__(self) -> str:
        gpus = f" and {self.gpus:g} GPU{'s' if self.gpus > 1 else ''}" if self.gpus else ""
        return f"{self.cpus:g} CPU{'s' if self.cpus > 1 else ''}{gpus}"


def seat(seats: Sequence[Seat], nodes: Sequence[Node]) -> list[Node | None]:
    """Assign the processes to nodes, the largest first, each to the fullest node with room; None if they do not fit.

    The result is a forecast; Ray decides. A fraction of a GPU is part of one GPU.
    """
    return _seat(seats, nodes)[0]


def idle_gpus_warning(seats: Sequence[Seat], nodes: Sequence[Node]) -> str | None:
    """Describe the whole GPUs that no process uses, and how to use them; None if there are none."""
    placed, free = _seat(seats, nodes)
    num_idle = sum(gpu > 1 - 1e-9 for of_node in free.values() for gpu in of_node[1:])
    if None in placed or not num_idle:
        return None
    num_free = sum(int(node.free_gpus + 1e-9) for node in nodes)
    counts = Counter(request.role for request in seats)
    who = " and ".join(f"{number} {role}{'s' * (number > 1)}" for role, number in counts.items())
    warning = f"{num_idle} of {num_free} free GPUs stay unused by {who}"
    per_sampler = max((request.gpus for request in seats if request.role == "sampler"), default=0.0)
    if any(0 < request.gpus < 1 for request in seats):
        return f"{warning}, which share GPUs; omit sampler.num_gpus and learner.num_gpus to give each process a GPU"
    if per_sampler >= 1 and (num_more := int(num_idle // per_sampler)):
        return f"{warning}; sampler.num_actors={counts['sampler'] + num_more} would use them"
    return warning


def _seat(seats: Sequence[Seat], nodes: Sequence[Node]) -> tuple[list[Node | None], dict[str, list[float]]]:
    """Return the node of each process, and the free CPUs and GPUs that remain on each node."""
    free = {node.id: [node.free_cpus, *_gpus(node.free_gpus)] for node in nodes}
    placed: list[Node | None] = [None] * len(seats)
    for number in sorted(range(len(seats)), key=lambda number: (-seats[number].gpus, -seats[number].cpus)):
        for node in sorted(nodes, key=lambda node: (sum(free[node.id][1:]), free[node.id][0])):
            if _take(seats[number], free[node.id]):
                placed[number] = node
                break
    return placed, free


def missing(seats: Sequence[Seat], nodes: Sequence[Node]) -> str | None:
    """Describe the seats that do not fit into the free resources; None if all fit."""
    without = [request for request, node in zip(seats, seat(seats, nodes), strict=True) if node is None]
    if not without:
        return None
    total = Counter(request.role for request in seats)
    of_role = Counter(request.role for request in without)
    needs = {request.role: str(request) for request in without}
    return "; ".join(
        f"no place for {number} of {total[role]} {role}(s), which need {needs[role]} each on one node"
        for role, number in of_role.items()
    )


def without_late_samplers(seats: Sequence[Seat], nodes: Sequence[Node]) -> tuple[list[Seat], list[Seat]]:
    """Divide the seats into those that fit into the free resources, and the samplers that do not fit beside them.

    If the other processes do not fit, no sampler is left among the first.
    """
    present, late = list(seats), []
    while missing(present, nodes) and (samplers := [seat for seat in present if seat.role == "sampler"]):
        present.remove(samplers[0])
        late.append(samplers[0])
    return present, late


def there_is(nodes: Sequence[Node]) -> str:
    """Describe the total and free resources of each node."""
    return "; ".join(
        f"{node.name}: {node.free_cpus:g} of {node.cpus:g} CPUs and {node.free_gpus:g} of {node.gpus:g} GPUs free"
        for node in nodes
    )


def plan_text(seats: Sequence[Seat], nodes: Sequence[Node], placed: Sequence[Node], address: str) -> str:
    """Return the placement as a table.

    Args:
        seats: The needs of each process.
        nodes: All nodes, with their free resources without this run.
        placed: The node of each process.
        address: Address of the cluster.
    """
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    head = f"cluster {address}: {len(nodes)} node{'s' * (len(nodes) > 1)}, {cpus:g} CPUs, {gpus:g} GPUs"
    rows = [("node", "free CPUs", "free GPUs", "gets")]
    for node in nodes:
        here = [request for request, where in zip(seats, placed, strict=True) if where.id == node.id]
        counts = Counter((request.role, str(request)) for request in here)
        gets = [f"{number} {role}{'s' * (number > 1)} ({needs} each)" for (role, needs), number in counts.items()]
        if node.is_drivers:
            gets.insert(0, "the driver and the graders")
        free = (f"{node.free_cpus:g} of {node.cpus:g}", f"{node.free_gpus:g} of {node.gpus:g}")
        rows.append((node.name, *free, ", ".join(gets) or "nothing"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join([*(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)), row[3]]) for row in rows
    ]
    return "\n".join([head, *(f"  {line}" for line in lines)])


def _gpus(free: float) -> list[float]:
    """Return free GPUs one by one; the remaining fraction of a shared GPU comes last."""
    whole = int(free + 1e-9)
    rest = free - whole
    return [1.0] * whole + ([rest] if rest > 1e-9 else [])


def _take(request: Seat, free: list[float]) -> bool:
    """Reduce the free GPUs of a node by the request, or leave them unchanged if it does not fit."""
    if free[0] + 1e-9 < request.cpus:
        return False
    if request.gpus >= 1:
        whole = [index for index in range(1, len(free)) if free[index] > 1 - 1e-9][: int(request.gpus)]
        if len(whole) < int(request.gpus):
            return False
        for index in whole:
            free[index] = 0.0
    elif request.gpus > 0:
        enough = [index for index in range(1, len(free)) if free[index] > request.gpus - 1e-9]
        if not enough:
            return False
        free[min(enough, key=lambda index: free[index])] -= request.gpus
    free[0] -= request.cpus
    return True
