"""Places that Ray reserves at once, after a wait, or later; its placement groups are fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rft.cluster import Node, placement
from rft.cluster.placement import Placement, reserved
from rft.cluster.seating import Seat
from rft.errors import ConfigError, WaitTimeout

SAMPLER, LEARNER = Seat(role="sampler", cpus=1, gpus=0), Seat(role="learner", cpus=1, gpus=0)


class Groups:
    """Placement groups, each on the nodes in turn; those with more bundles than the nodes have CPUs find no room."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self.made: list[list[Seat]] = []
        self.removed: list[list[Seat]] = []

    async def now(self) -> list[Node]:
        return list(self.nodes)

    async def make(self, seats: Sequence[Seat]) -> list[Seat]:
        self.made.append(list(seats))
        return self.made[-1]

    async def remove(self, groups: Sequence[list[Seat]]) -> None:
        self.removed += groups

    async def until_placed(self, group: list[Seat], num_processes: int, deadline_s: float) -> None:
        if len(group) > sum(node.free_cpus for node in self.nodes):
            raise WaitTimeout(f"room for {num_processes} processes", deadline_s)

    def table(self, group: list[Seat]) -> dict[str, Any]:
        return {"bundles_to_node_id": {number: self.nodes[number].id for number in range(len(group))}}


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch, make_node: Callable[..., Node]) -> Groups:
    """The placement groups on three nodes with a CPU each."""
    groups = Groups([make_node(name, 1) for name in "abc"])
    monkeypatch.setattr(placement, "nodes_now", groups.now)
    monkeypatch.setattr(placement, "_group", groups.make)
    monkeypatch.setattr(placement, "_remove", groups.remove)
    monkeypatch.setattr(placement, "_until_placed", groups.until_placed)
    monkeypatch.setattr("ray.util.placement_group_table", groups.table)
    return groups


def reserve(num_samplers: int, *, min_samplers: int) -> tuple[Placement, list[str]]:
    """Reserve places for samplers and a learner; return the placement, and what is told."""
    told: list[str] = []

    async def job() -> Placement:
        seats = [*[SAMPLER] * num_samplers, LEARNER]
        how: dict[str, Any] = {"address": "here", "deadline_s": 120.0, "min_samplers": min_samplers}
        async with reserved(seats, tell=told.append, **how) as made:
            return made

    return asyncio.run(job()), told


def test_all_fit(groups: Groups) -> None:
    made, _ = reserve(2, min_samplers=1)
    assert groups.made == groups.removed == [[SAMPLER, SAMPLER, LEARNER]]
    assert (made.of("sampler"), made.late_groups) == ([0, 1], ())
    assert [node.name for node in made.nodes] == ["a", "b", "c"]


def test_samplers_without_a_place_get_a_group_each(groups: Groups) -> None:
    made, told = reserve(4, min_samplers=2)
    all_together, fewer = [*[SAMPLER] * 4, LEARNER], [SAMPLER, SAMPLER, LEARNER]
    assert groups.made == groups.removed == [all_together, fewer, [SAMPLER], [SAMPLER]]
    assert made.of("sampler") == [0, 1, 3, 4]
    assert [node.name for node in made.nodes_of("sampler")] == ["a", "b"]
    assert [node.name for node in made.nodes_of("learner")] == ["c"]
    assert [made.bundle(number) for number in range(5)] == [
        (fewer, 0),
        (fewer, 1),
        (fewer, 2),
        ([SAMPLER], 0),
        ([SAMPLER], 0),
    ]
    assert (made.one_seat_by_node("sampler"), made.one_seat_by_node("learner")) == ([0, 1], [2])
    assert [made.num_gpus_of(node) for node in made.nodes] == [0, 0, 0]
    assert told[0].endswith("waiting up to 120 s for room")


@pytest.mark.parametrize("num_samplers", [3, 8])
def test_too_few_samplers_have_a_place(groups: Groups, num_samplers: int) -> None:
    with pytest.raises(ConfigError, match=r"no place for 1 of|no place for 6 of") as caught:
        reserve(num_samplers, min_samplers=3)
    assert "after 120 s (cluster.placement_timeout_s)" in str(caught.value)
    assert "lower sampler.num_actors, sampler.min_actors, " in str(caught.value)
    assert groups.made == groups.removed
