"""What a run asks of the cluster, what there is on each node, and what does not fit, before anything starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rft.cluster.nodes import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """What one process needs; all of it on one node.

    Example:
        Seat(role="sampler", cpus=1, gpus=2)
    """

    role: str
    """sampler or learner."""
    cpus: float
    """CPUs that Ray sets aside."""
    gpus: float
    """GPUs that Ray sets aside."""

    def to_bundle(self) -> dict[str, float]:
        """As Ray's placement groups have it."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})

    def __str__(self) -> str:
        gpus = f" and {self.gpus:g} GPU{'s' if self.gpus > 1 else ''}" if self.gpus else ""
        return f"{self.cpus:g} CPU{'s' if self.cpus > 1 else ''}{gpus}"


def seat(seats: Sequence[Seat], nodes: Sequence[Node]) -> list[Node | None]:
    """Seat the processes where it is free, the largest first, each on the fullest node that takes it; None: no room.

    It tells what to expect; Ray decides. A fraction of a GPU is part of one GPU.
    """
    free = {node.id: [node.free_cpus, *_gpus(node.free_gpus)] for node in nodes}
    placed: list[Node | None] = [None] * len(seats)
    for number in sorted(range(len(seats)), key=lambda number: (-seats[number].gpus, -seats[number].cpus)):
        for node in sorted(nodes, key=lambda node: (sum(free[node.id][1:]), free[node.id][0])):
            if _take(seats[number], free[node.id]):
                placed[number] = node
                break
    return placed


def missing(seats: Sequence[Seat], nodes: Sequence[Node]) -> str | None:
    """What does not fit into what is free, in words; None when all of it does."""
    without = [wanted for wanted, node in zip(seats, seat(seats, nodes), strict=True) if node is None]
    if not without:
        return None
    total = Counter(wanted.role for wanted in seats)
    of_role = Counter(wanted.role for wanted in without)
    needs = {wanted.role: str(wanted) for wanted in without}
    return "; ".join(
        f"no place for {number} of {total[role]} {role}(s), which need {needs[role]} each on one node"
        for role, number in of_role.items()
    )


def there_is(nodes: Sequence[Node]) -> str:
    """What there is on each node and what of it is free, in words."""
    return "; ".join(
        f"{node.name}: {node.free_cpus:g} of {node.cpus:g} CPUs and {node.free_gpus:g} of {node.gpus:g} GPUs free"
        for node in nodes
    )


def plan_text(seats: Sequence[Seat], nodes: Sequence[Node], placed: Sequence[Node], address: str) -> str:
    """Where everything goes, as a table.

    Args:
        seats: What each process needs.
        nodes: All nodes, with what is free on them without this run.
        placed: The node of each.
        address: Of the cluster.
    """
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    head = f"cluster {address}: {len(nodes)} node{'s' * (len(nodes) > 1)}, {cpus:g} CPUs, {gpus:g} GPUs"
    rows = [("node", "free CPUs", "free GPUs", "gets")]
    for node in nodes:
        here = [wanted for wanted, where in zip(seats, placed, strict=True) if where.id == node.id]
        counts = Counter((wanted.role, str(wanted)) for wanted in here)
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
    """Free GPUs one by one; the fraction that is left of a shared one comes last."""
    whole = int(free + 1e-9)
    rest = free - whole
    return [1.0] * whole + ([rest] if rest > 1e-9 else [])


def _take(wanted: Seat, free: list[float]) -> bool:
    """Take what is wanted out of what is free on a node, or leave it as it is."""
    if free[0] + 1e-9 < wanted.cpus:
        return False
    if wanted.gpus >= 1:
        whole = [index for index in range(1, len(free)) if free[index] > 1 - 1e-9][: int(wanted.gpus)]
        if len(whole) < int(wanted.gpus):
            return False
        for index in whole:
            free[index] = 0.0
    elif wanted.gpus > 0:
        enough = [index for index in range(1, len(free)) if free[index] > wanted.gpus - 1e-9]
        if not enough:
            return False
        free[min(enough, key=lambda index: free[index])] -= wanted.gpus
    free[0] -= wanted.cpus
    return True
