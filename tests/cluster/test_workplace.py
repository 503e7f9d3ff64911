"""The resources of this machine are checked before anything starts."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from rft.cluster import Node, refuse_early
from rft.cluster.placement import Placement
from rft.cluster.seating import Seat
from rft.config.commands import load_training
from rft.errors import ConfigError

MODULE = importlib.import_module("rft.cluster.workplace")
"""`rft.cluster.workplace` is the function of that name."""


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another test of this process may have connected to Ray."""
    monkeypatch.setattr(MODULE, "starts_ray", lambda cluster: True)


@pytest.fixture
def build_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "vllm_needs_gpu", lambda: True)


def refuse(*words: str) -> None:
    refuse_early(load_training(["experiment=quickstart", *words], "/nowhere"))


@pytest.mark.usefixtures("build_for_gpus")
@pytest.mark.parametrize("num_gpus", [0, 1])
def test_vllm_for_gpus_is_refused_without_one(monkeypatch: pytest.MonkeyPatch, num_gpus: int) -> None:
    monkeypatch.setattr("rft.cluster.nodes.num_gpus_here", lambda: num_gpus)
    with pytest.raises(ConfigError, match=r"sampler.num_gpus=0: the installed vLLM is the build for GPUs"):
        refuse("sampler.num_gpus=0")


@pytest.mark.usefixtures("build_for_gpus")
def test_vllm_for_gpus_may_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rft.cluster.nodes.num_gpus_here", lambda: 1)
    refuse()


@pytest.mark.usefixtures("build_for_gpus")
def test_other_samplers_need_no_gpu() -> None:
    refuse("sampler=transformers", "sampler.num_gpus=0")


def test_vllm_for_cpus_needs_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "vllm_needs_gpu", lambda: False)
    refuse("sampler.num_gpus=0")


@pytest.mark.parametrize("is_local", [False, True])
def test_processes_on_other_nodes_are_named(make_node: Callable[..., Node], is_local: bool) -> None:
    run = load_training(["experiment=quickstart", "sampler=fake", "learner=fake"], "/nowhere")
    shares = MODULE.shares_here(run)
    placement = Placement(
        group=object(),
        seats=(Seat(role="sampler", cpus=1, gpus=0), Seat(role="learner", cpus=1, gpus=0)),
        nodes=(make_node("rollouts", 2), make_node("training", 2)),
    )
    place = MODULE._placed(placement, run, Path("model"), shares, is_local=is_local)
    assert (place.sampler_nodes, place.learner_node) == (((), "") if is_local else (("rollouts",), "training"))


def test_a_teacher_has_seats_of_its_own() -> None:
    words = ["experiment=quickstart", "learner=distill", "teacher.path=embedded:tiny", "teacher.num_actors=2"]
    run = load_training(words, "/nowhere")
    assert MODULE._num_processes(run) == (1, 1, 0, 2)
    assert MODULE._num_processes(run, "learner") == (0, 1, 0, 2), "each trial of a sweep has its own"
    assert MODULE._num_processes(run, "samplers") == (1, 0, 0, 0)
    seats = MODULE._seats(MODULE.shares_here(run), 1, 1, 0, 2)
    assert [seat.role for seat in seats] == ["sampler", "learner", "teacher", "teacher"]
