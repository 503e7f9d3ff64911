"""How many trials at a time."""

from __future__ import annotations

import pytest

from rft.cluster import Node
from rft.config import RunConfig
from rft.config.commands import load_training
from rft.sweep.capacity import default_parallel, room_for


def run(*words: str) -> RunConfig:
    return load_training(["experiment=quickstart", *words], "/nowhere")


def nodes(*sizes: tuple[int, int]) -> list[Node]:
    """Nodes of so many CPUs and GPUs."""
    return [
        Node(id=str(number), name=str(number), cpus=cpus, gpus=gpus, free_cpus=cpus, free_gpus=gpus)
        for number, (cpus, gpus) in enumerate(sizes)
    ]


@pytest.mark.parametrize(
    ("words", "sizes", "shared", "separate"),
    [
        ((), [(2, 0)], 4, 2),
        ((), [(64, 0)], 4, 4),
        ((), [(64, 0), (2, 0)], 8, 6),
        # One GPU for the sampler they share, one for each learner; or two for each trial.
        ((), [(64, 8)], 7, 4),
        # All GPUs of a cluster count.
        ((), [(0, 0), (32, 8), (32, 8)], 15, 8),
        (("sampler.num_actors=2",), [(64, 8)], 6, 2),
        (("+sampler.engine.tensor_parallel_size=4",), [(64, 8)], 4, 1),
        (("learner.num_gpus=0.5", "sampler.num_gpus=0.5"), [(64, 2)], 3, 2),
        # Less than one trial needs: it runs, or is told so.
        ((), [(64, 1)], 1, 1),
        # Trials without a GPU are counted by cores.
        (("sampler.num_gpus=0", "learner.num_gpus=0"), [(2, 8)], 4, 2),
    ],
)
def test_where_nothing_is_said(
    words: tuple[str, ...], sizes: list[tuple[int, int]], shared: int, separate: int
) -> None:
    assert default_parallel([run(*words)], nodes(*sizes), share_fleet=True) == shared
    assert default_parallel([run(*words)], nodes(*sizes), share_fleet=False) == separate


def test_the_largest_trial_decides() -> None:
    runs = [run(), run("sampler.num_actors=3")]
    assert default_parallel(runs, nodes((64, 8)), share_fleet=False) == 2
    assert room_for(runs, nodes((9, 0)), share_fleet=True) == 6


@pytest.mark.parametrize(
    ("sizes", "shared", "separate"), [([(4, 0)], 3, 2), ([(0, 0), (2, 0), (3, 0)], 4, 2), ([(1, 0)], 1, 1)]
)
def test_room_on_a_cluster(sizes: list[tuple[int, int]], shared: int, separate: int) -> None:
    assert room_for([run()], nodes(*sizes), share_fleet=True) == shared
    assert room_for([run()], nodes(*sizes), share_fleet=False) == separate


def test_models_of_graders_need_cpus() -> None:
    with_model = run("+graders.quality.use=reward_model", "+graders.quality.model=/nowhere")
    # The samplers they share, then one learner and one model for each trial.
    assert room_for([with_model], nodes((7, 0)), share_fleet=True) == 3
    assert room_for([with_model], nodes((7, 0)), share_fleet=False) == 2
