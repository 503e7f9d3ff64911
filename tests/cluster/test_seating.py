"""What goes where and what does not fit, worked out by hand."""

from collections.abc import Callable

import pytest

from rft.cluster import Node
from rft.cluster.placement import Placement
from rft.cluster.seating import Seat, idle_gpus_warning, missing, plan_text, seat, there_is, without_late_samplers

MakeNode = Callable[..., Node]


def names(nodes: list[Node | None]) -> list[str | None]:
    return [node and node.name for node in nodes]


def test_the_largest_is_seated_first(make_node: MakeNode) -> None:
    seats = [Seat(role="sampler", cpus=1, gpus=1), Seat(role="sampler", cpus=1, gpus=2)]
    # The small one would fit on either node, and taking a GPU of the large node would leave the other none.
    assert names(seat(seats, [make_node("a", 4, 2), make_node("b", 4, 1)])) == ["b", "a"]


def test_an_engine_is_never_split_over_nodes(make_node: MakeNode) -> None:
    spanning = [Seat(role="sampler", cpus=1, gpus=2)]
    assert names(seat(spanning, [make_node("a", 4, 1), make_node("b", 4, 1)])) == [None]
    assert names(seat(spanning, [make_node("a", 4, 1), make_node("b", 4, 2)])) == ["b"]


def test_a_fraction_is_part_of_one_gpu(make_node: MakeNode) -> None:
    # 1.5 GPUs free are a whole one and a half: of three times 0.6 only one finds room.
    seats = [Seat(role="sampler", cpus=1, gpus=0.6)] * 3
    assert names(seat(seats, [make_node("a", 8, 2, free_gpus=1.5)])) == ["a", None, None]
    halves = [Seat(role="sampler", cpus=1, gpus=0.5)] * 3
    assert names(seat(halves, [make_node("a", 8, 2, free_gpus=1.5)])) == ["a", "a", "a"]


def test_cpus_count_too(make_node: MakeNode) -> None:
    seats = [Seat(role="sampler", cpus=1, gpus=0)] * 3
    assert names(seat(seats, [make_node("a", 4, free_cpus=1), make_node("b", 1)])).count(None) == 1


def test_what_does_not_fit_in_words(make_node: MakeNode) -> None:
    seats = [Seat(role="sampler", cpus=1, gpus=2)] * 3 + [Seat(role="learner", cpus=1, gpus=1)]
    nodes = [make_node("a", 8, 4), make_node("b", 8, 1, free_cpus=2)]
    assert missing(seats, nodes) == "no place for 1 of 3 sampler(s), which need 1 CPU and 2 GPUs each on one node"
    assert missing(seats[1:], nodes) is None
    assert there_is(nodes) == ("a: 8 of 8 CPUs and 4 of 4 GPUs free; b: 2 of 8 CPUs and 1 of 1 GPUs free")


def test_ranks_without_a_place(make_node: MakeNode) -> None:
    seats = [Seat(role="sampler", cpus=1, gpus=1)] + [Seat(role="learner", cpus=1, gpus=1)] * 4
    nodes = [make_node("a", 8, 2), make_node("b", 8, 2)]
    assert missing(seats, nodes) == "no place for 1 of 4 learner(s), which need 1 CPU and 1 GPU each on one node"


def test_the_plan(make_node: MakeNode) -> None:
    head = make_node("head", 4, is_drivers=True)
    big, other = make_node("gpu-1", 16, 4, free_gpus=3), make_node("gpu-2", 16, 4)
    seats = [Seat(role="sampler", cpus=1, gpus=2)] * 2 + [Seat(role="learner", cpus=1, gpus=1)]
    assert plan_text(seats, [head, big, other], [other, other, big], "10.0.0.1:6379") == (
        "cluster 10.0.0.1:6379: 3 nodes, 36 CPUs, 8 GPUs\n"
        "  node   free CPUs  free GPUs  gets\n"
        "  head   4 of 4     0 of 0     the driver and the graders\n"
        "  gpu-1  16 of 16   3 of 4     1 learner (1 CPU and 1 GPU each)\n"
        "  gpu-2  16 of 16   4 of 4     2 samplers (1 CPU and 2 GPUs each)"
    )


def seats(samplers: int, sampler_gpus: float, ranks: int, learner_gpus: float) -> list[Seat]:
    of_samplers = [Seat(role="sampler", cpus=1, gpus=sampler_gpus)] * samplers
    return of_samplers + [Seat(role="learner", cpus=1, gpus=learner_gpus)] * ranks


def test_a_plan_that_uses_every_gpu_warns_of_nothing(make_node: MakeNode) -> None:
    assert idle_gpus_warning(seats(1, 0.5, 1, 0.5), [make_node("a", 8, 1)]) is None
    assert idle_gpus_warning(seats(2, 1, 1, 1), [make_node(name, 8, 1) for name in "abc"]) is None
    assert idle_gpus_warning(seats(7, 1, 1, 1), [make_node("a", 16, 8)]) is None
    assert idle_gpus_warning(seats(3, 4, 4, 1), [make_node("a", 16, 8), make_node("b", 16, 8)]) is None
    assert idle_gpus_warning(seats(1, 0, 1, 0), [make_node("a", 8)]) is None


def test_gpus_that_stay_unused(make_node: MakeNode) -> None:
    # Two halves on one GPU, the third half on another.
    assert idle_gpus_warning(seats(2, 0.5, 1, 0.5), [make_node(name, 8, 1) for name in "abc"]) == (
        "1 of 3 free GPUs stay unused by 2 samplers and 1 learner, which share GPUs; omit sampler.num_gpus and "
        "learner.num_gpus to give each process a GPU"
    )
    assert idle_gpus_warning(seats(1, 1, 1, 1), [make_node("a", 16, 8)]) == (
        "6 of 8 free GPUs stay unused by 1 sampler and 1 learner; sampler.num_actors=7 would use them"
    )
    nodes = [make_node("a", 16, 8), make_node("b", 16, 8)]
    assert idle_gpus_warning(seats(2, 4, 2, 1), nodes) == (
        "6 of 16 free GPUs stay unused by 2 samplers and 2 learners; sampler.num_actors=3 would use them"
    )
    assert idle_gpus_warning(seats(3, 4, 2, 1), nodes) == "2 of 16 free GPUs stay unused by 3 samplers and 2 learners"


def test_gpus_in_use_by_others_are_not_unused(make_node: MakeNode) -> None:
    assert idle_gpus_warning(seats(1, 0.5, 1, 0.5), [make_node("a", 16, 8, free_gpus=1.5)]) is None


def test_a_plan_that_does_not_fit_warns_of_nothing(make_node: MakeNode) -> None:
    assert idle_gpus_warning(seats(2, 2, 1, 1), [make_node("a", 16, 3)]) is None


def test_bundles() -> None:
    assert Seat(role="sampler", cpus=1, gpus=0).to_bundle() == {"CPU": 1}
    assert Seat(role="sampler", cpus=1, gpus=0.5).to_bundle() == {"CPU": 1, "GPU": 0.5}


def test_gpus_of_a_node_that_processes_use(make_node: MakeNode) -> None:
    a, b, c = make_node("a", 8, 4), make_node("b", 8, 4), make_node("c", 8, 4)
    gpus = (1, 1 / 3, 1 / 3, 1 / 3, 2, 0)
    seats = tuple(Seat(role="sampler", cpus=1, gpus=each) for each in gpus)
    placement = Placement(group=None, seats=seats, nodes=(a, a, a, a, b, c))
    assert [placement.num_gpus_of(node) for node in (a, b, c)] == [2, 2, 0]


@pytest.mark.parametrize(
    ("num_samplers", "num_ranks", "expected"), [(2, 1, 2), (3, 1, 3), (5, 1, 3), (5, 3, 1), (5, 4, 0), (5, 5, 0)]
)
def test_the_samplers_that_fit_beside_the_learner(
    make_node: MakeNode, num_samplers: int, num_ranks: int, expected: int
) -> None:
    """There are four CPUs."""
    sampler, rank = Seat(role="sampler", cpus=1, gpus=0), Seat(role="learner", cpus=1, gpus=0)
    seats = [*[sampler] * num_samplers, *[rank] * num_ranks]
    assert without_late_samplers(seats, [make_node("a", 3), make_node("b", 1)]) == (
        [*[sampler] * expected, *[rank] * num_ranks],
        [sampler] * (num_samplers - expected),
    )
