"""Sharing nodes out, by hand."""

from collections.abc import Callable

import pytest

from rft.cluster import Node, Shares, share_out
from rft.cluster.shares import threads_of
from rft.config.learners.grpo import GrpoLearnerConfig
from rft.config.samplers.server import ServerSamplerConfig
from rft.config.samplers.vllm import VllmSamplerConfig
from rft.errors import ConfigError

MakeNode = Callable[..., Node]


def shares(threads: tuple[int, int], gpus: tuple[float, float]) -> Shares:
    return Shares(sampler_threads=threads[0], learner_threads=threads[1], sampler_gpus=gpus[0], learner_gpus=gpus[1])


@pytest.mark.parametrize(
    ("num_actors", "cpus", "gpus", "expected"),
    [
        (1, 2, 0, shares((1, 1), (0, 0))),
        (1, 8, 0, shares((4, 4), (0, 0))),
        (3, 8, 0, shares((2, 2), (0, 0))),
        (7, 2, 0, shares((1, 1), (0, 0))),  # more processes than cores: one thread each
        (1, 8, 1, shares((4, 4), (0.5, 0.5))),  # one GPU for two
        (3, 8, 4, shares((2, 2), (1, 1))),
        (1, 8, 8, shares((4, 4), (1, 1))),  # more GPUs than processes: one each
        (2, 9, 2, shares((3, 3), (0.5, 1))),  # one GPU for the learner, the other for two samplers
        (3, 8, 2, shares((2, 2), (1 / 3, 1))),
        (4, 10, 3, shares((2, 2), (0.5, 1))),
    ],
)
def test_shares_of_samplers_and_a_learner(
    make_node: MakeNode, num_actors: int, cpus: int, gpus: int, expected: Shares
) -> None:
    assert (
        share_out(VllmSamplerConfig(num_actors=num_actors), GrpoLearnerConfig(), [make_node("a", cpus, gpus)])
        == expected
    )


@pytest.mark.parametrize(
    ("cpus", "gpus", "expected"),
    [
        (2, 0, shares((1, 1), (0, 0))),
        (12, 0, shares((3, 3), (0, 0))),  # one sampler and three learners
        (16, 4, shares((4, 4), (1, 1))),
        (16, 2, shares((4, 4), (0.5, 0.5))),
    ],
)
def test_samplers_that_three_learners_have_in_common(
    make_node: MakeNode, cpus: int, gpus: int, expected: Shares
) -> None:
    node = make_node("a", cpus, gpus)
    assert share_out(VllmSamplerConfig(num_actors=1), GrpoLearnerConfig(), [node], num_learners=3) == expected


@pytest.mark.parametrize(
    ("cpus", "gpus", "expected"),
    [
        (3, 0, shares((1, 1), (0, 0))),
        (9, 3, shares((3, 3), (1, 1))),  # one sampler and two ranks
        (8, 2, shares((2, 2), (0.5, 0.5))),
    ],
)
def test_ranks_are_processes_like_others(make_node: MakeNode, cpus: int, gpus: int, expected: Shares) -> None:
    learner = GrpoLearnerConfig(num_workers=2)
    assert share_out(VllmSamplerConfig(num_actors=1), learner, [make_node("a", cpus, gpus)]) == expected


def test_ranks_have_gpus_of_their_own_where_one_is_left_for_the_samplers(make_node: MakeNode) -> None:
    # Two ranks, each with a GPU; two samplers share the third.
    learner = GrpoLearnerConfig(num_workers=2)
    found = share_out(VllmSamplerConfig(num_actors=2), learner, [make_node("a", 8, 3)])
    assert (found.sampler_gpus, found.learner_gpus) == (0.5, 1)


@pytest.mark.parametrize(("machines", "gpus"), [(1, 8), (2, 4), (8, 1)])
def test_samplers_that_would_share_gpus_while_others_stay_unused(make_node: MakeNode, machines: int, gpus: int) -> None:
    nodes = [make_node(str(number), 16, gpus) for number in range(machines)]
    with pytest.raises(ConfigError) as caught:
        share_out(VllmSamplerConfig(num_actors=8), GrpoLearnerConfig(), nodes)
    # Two samplers on a GPU are the most that fit seven GPUs, and then need four.
    assert caught.value.problems == (
        "8 samplers and 1 rank(s) of the learner on 8 GPUs: the samplers would share 4 GPU(s) and 3 would stay unused; "
        "set sampler.num_actors=7, which gives each process a GPU, or set sampler.num_gpus and learner.num_gpus",
    )
    assert share_out(VllmSamplerConfig(num_actors=7), GrpoLearnerConfig(), nodes).sampler_gpus == 1
    assert share_out(VllmSamplerConfig(num_actors=14), GrpoLearnerConfig(), nodes).sampler_gpus == 0.5


def test_samplers_without_a_learner_that_would_leave_gpus_unused(make_node: MakeNode) -> None:
    with pytest.raises(ConfigError, match=r"^cluster.*\n.*5 samplers on 4 GPUs: .* share 3 GPU\(s\) and 1 would stay"):
        share_out(VllmSamplerConfig(num_actors=5), None, [make_node("a", 8, 4)])


@pytest.mark.parametrize(
    ("gpus", "num_actors", "graders", "expected"),
    [
        (0, 1, [None], (0, 0, (0,))),
        (1, 1, [None], (1 / 3, 1 / 3, (1 / 3,))),
        (1, 1, [0.2], (0.4, 0.4, (0.2,))),
        (1, 1, [0], (0.5, 0.5, (0,))),
        (8, 6, [None], (1, 1, (1,))),
        (8, 6, [0.2], (1, 1, (0.2,))),
        (2, 1, [None], (0.5, 1, (0.5,))),  # the model shares the sampler's GPU
        (2, 1, [0.2], (0.8, 1, (0.2,))),
        (2, 2, [0.2], (0.4, 1, (0.2,))),
        (2, 1, [1], (0.5, 0.5, (1,))),
        (4, 1, [None, 0.5], (1, 1, (1, 0.5))),
    ],
)
def test_models_of_graders_get_a_share(
    make_node: MakeNode,
    gpus: int,
    num_actors: int,
    graders: list[float | None],
    expected: tuple[float, float, tuple[float, ...]],
) -> None:
    sampler = VllmSamplerConfig(num_actors=num_actors)
    found = share_out(sampler, GrpoLearnerConfig(), [make_node("a", 16, gpus)], graders=graders)
    assert (found.sampler_gpus, found.learner_gpus) == pytest.approx(expected[:2])
    assert found.grader_gpus == pytest.approx(expected[2])


def test_models_of_graders_that_leave_no_gpu_are_refused(make_node: MakeNode) -> None:
    with pytest.raises(ConfigError) as caught:
        share_out(VllmSamplerConfig(), GrpoLearnerConfig(num_gpus=0), [make_node("a", 4, 1)], graders=[1])
    assert caught.value.problems == (
        "models of graders take 1 of 1 GPU(s), which leaves none for sampler; lower graders.<name>.num_gpus, or set "
        "sampler.num_gpus=0 to run on the CPU",
    )
    on_cpu = share_out(
        VllmSamplerConfig(num_gpus=0), GrpoLearnerConfig(num_gpus=0), [make_node("a", 4, 1)], graders=[1]
    )
    assert (on_cpu.sampler_gpus, on_cpu.learner_gpus, on_cpu.grader_gpus) == (0, 0, (1,))


def test_models_of_graders_count_against_the_gpus(make_node: MakeNode) -> None:
    with pytest.raises(ConfigError) as caught:
        share_out(VllmSamplerConfig(num_gpus=1), GrpoLearnerConfig(num_gpus=1), [make_node("a", 4, 2)], graders=[0.5])
    assert caught.value.problems == (
        "1 sampler(s) with 1 GPU(s) each and a learner with 1, and models of graders with 0.5 in all, want 2.5, but "
        "there are 2; lower sampler.num_actors, sampler.num_gpus, graders.<name>.num_gpus or learner.num_gpus (0 runs "
        "on the CPU)",
    )


def test_gpus_of_all_nodes_count(make_node: MakeNode) -> None:
    nodes = [make_node("a", 4, 1), make_node("b", 4, 2), make_node("c", 4)]
    assert share_out(VllmSamplerConfig(num_actors=2), GrpoLearnerConfig(), nodes) == shares((1, 1), (1, 1))


def test_without_a_learner_the_samplers_get_everything(make_node: MakeNode) -> None:
    result = share_out(VllmSamplerConfig(num_actors=2), None, [make_node("a", 8, 2)])
    assert (result.sampler_threads, result.sampler_gpus) == (4, 1)


def test_what_is_configured_stands(make_node: MakeNode) -> None:
    sampler = VllmSamplerConfig(num_actors=1, num_threads=7, num_gpus=0.25)
    learner = GrpoLearnerConfig(num_threads=3, num_gpus=0.75)
    assert share_out(sampler, learner, [make_node("a", 2, 1)]) == shares((7, 3), (0.25, 0.75))


def test_zero_gpus_run_on_the_cpu(make_node: MakeNode) -> None:
    found = share_out(VllmSamplerConfig(num_gpus=0), GrpoLearnerConfig(num_gpus=0), [make_node("a", 4, 1)])
    assert found == shares((2, 2), (0, 0))


def test_gpus_of_the_learner_are_not_counted_where_there_is_none(make_node: MakeNode) -> None:
    assert share_out(VllmSamplerConfig(num_gpus=1), None, [make_node("a", 4, 1)]).sampler_gpus == 1


def test_an_engine_gets_the_gpus_that_it_spans(make_node: MakeNode) -> None:
    sampler = VllmSamplerConfig(num_actors=2, engine={"tensor_parallel_size": 4})
    nodes = [make_node("a", 16, 8), make_node("b", 8, 1)]
    found = share_out(sampler, GrpoLearnerConfig(), nodes)
    assert (found.sampler_gpus, found.learner_gpus) == (4, 1)


def test_more_gpus_than_there_are_is_refused(make_node: MakeNode) -> None:
    with pytest.raises(ConfigError) as caught:
        share_out(VllmSamplerConfig(num_actors=2, num_gpus=0.5), GrpoLearnerConfig(num_gpus=1), [make_node("a", 4, 1)])
    assert caught.value.problems == (
        "2 sampler(s) with 0.5 GPU(s) each and a learner with 1 want 2, but there are 1; lower sampler.num_actors, "
        "sampler.num_gpus or learner.num_gpus (0 runs on the CPU)",
    )


def test_a_run_that_may_start_with_fewer_samplers(make_node: MakeNode) -> None:
    sampler, nodes = VllmSamplerConfig(num_actors=3, num_gpus=1), [make_node("a", 4, 3)]
    found = share_out(sampler, GrpoLearnerConfig(num_gpus=1), nodes, min_samplers=2)
    assert (found.sampler_gpus, found.learner_gpus) == (1, 1)
    with pytest.raises(ConfigError, match=r"3 sampler\(s\) with 1 GPU\(s\) each and a learner with 1 want 4, but "):
        share_out(sampler, GrpoLearnerConfig(num_gpus=1), nodes, min_samplers=3)


def test_more_gpus_than_there_are_for_the_ranks(make_node: MakeNode) -> None:
    with pytest.raises(ConfigError) as caught:
        share_out(VllmSamplerConfig(num_gpus=1), GrpoLearnerConfig(num_workers=2, num_gpus=1), [make_node("a", 4, 2)])
    assert caught.value.problems == (
        "1 sampler(s) with 1 GPU(s) each and 2 learner ranks with 1 each want 3, but there are 2; lower "
        "sampler.num_actors, sampler.num_gpus, learner.num_workers or learner.num_gpus (0 runs on the CPU)",
    )


def test_fewer_gpus_than_an_engine_spans_are_refused(make_node: MakeNode) -> None:
    sampler = VllmSamplerConfig(num_gpus=1, engine={"tensor_parallel_size": 2})
    with pytest.raises(ConfigError, match=r"sampler\.num_gpus=1: an engine spans 2 GPUs"):
        share_out(sampler, GrpoLearnerConfig(), [make_node("a", 4, 4)])


def test_threads_are_those_of_the_node(make_node: MakeNode) -> None:
    small, large = make_node("small", 4), make_node("large", 12)
    # Two processes on the small node; on the large one the learner alone.
    assert threads_of([small, small], [large]) == (2, 12)
    # The learner and one sampler on the large node, 6 each; the other sampler has 4 on the small one.
    assert threads_of([small, large], [large]) == (4, 6)
    assert threads_of([large, large, large], []) == (4, 4)
    # A sampler and a rank on the small node, the other rank alone on the large one: all ranks as the least has.
    assert threads_of([small], [small, large]) == (2, 2)


def test_those_who_take_turns_both_get_all_threads(make_node: MakeNode) -> None:
    node = make_node("a", 12)
    assert threads_of([node, node], [node], take_turns=True) == (6, 12)
    assert threads_of([node, node], [node], take_turns=True, parallel=2) == (3, 6)
    assert threads_of([node, node], [], take_turns=True) == (6, 6)
    assert threads_of([node], [node, node, node], take_turns=True) == (12, 4)
    shares = share_out(VllmSamplerConfig(num_actors=2), GrpoLearnerConfig(), [node], take_turns=True)
    assert (shares.sampler_threads, shares.learner_threads) == (6, 12)


@pytest.mark.parametrize(("learner", "expected"), [(GrpoLearnerConfig(), (0, 1)), (None, (0, 0))])
def test_a_client_of_a_server_takes_no_gpu(
    learner: GrpoLearnerConfig | None, expected: tuple[float, float], make_node: MakeNode
) -> None:
    shares = share_out(ServerSamplerConfig(), learner, [make_node("a", 8, 1)])
    assert (shares.sampler_gpus, shares.learner_gpus) == expected


@pytest.mark.parametrize("gpus", [0, 2])
def test_sleep_needs_a_gpu_of_samplers_and_learner(make_node: MakeNode, gpus: int) -> None:
    with pytest.raises(ConfigError, match=r"sampler.sleep=true: samplers .* share no GPU"):
        share_out(VllmSamplerConfig(sleep=True), GrpoLearnerConfig(), [make_node("a", 4, gpus)])


def test_sleep_on_a_gpu_of_both(make_node: MakeNode) -> None:
    found = share_out(VllmSamplerConfig(sleep=True), GrpoLearnerConfig(), [make_node("a", 4, 1)])
    assert (found.sampler_gpus, found.learner_gpus) == (0.5, 0.5)


def test_a_measurement_ignores_sleep(make_node: MakeNode) -> None:
    assert share_out(VllmSamplerConfig(sleep=True), None, [make_node("a", 4, 1)]).sampler_gpus == 1


@pytest.mark.parametrize(
    ("gpus", "teachers", "expected"),
    [
        (0, [None], (0, 0, 0)),
        (1, [None], (1 / 3, 1 / 3, 1 / 3)),
        (2, [None], (0.5, 1, 0.5)),  # the teacher shares the sampler's GPU
        (3, [None], (1, 1, 1)),
        (4, [None, None], (1, 1, 1)),
        (2, [0], (1, 1, 0)),
        (4, [2.0], (1, 1, 2)),
    ],
)
def test_the_teacher_gets_a_share(
    make_node: MakeNode, gpus: int, teachers: list[float | None], expected: tuple[float, float, float]
) -> None:
    found = share_out(VllmSamplerConfig(), GrpoLearnerConfig(), [make_node("a", 16, gpus)], teachers=teachers)
    assert (found.sampler_gpus, found.learner_gpus, found.teacher_gpus) == pytest.approx(expected)


def test_a_teacher_that_leaves_no_gpu_is_refused(make_node: MakeNode) -> None:
    with pytest.raises(ConfigError) as caught:
        share_out(VllmSamplerConfig(), GrpoLearnerConfig(num_gpus=0), [make_node("a", 4, 1)], teachers=[1])
    assert caught.value.problems == (
        "the teacher's engines take 1 of 1 GPU(s), which leaves none for sampler; lower teacher.num_gpus, or set "
        "sampler.num_gpus=0 to run on the CPU",
    )
