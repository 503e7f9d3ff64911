"""Sharing a machine out, by hand."""

from pathlib import Path

import pytest

from rft import cluster
from rft.cluster import Shares, num_gpus_here, share_out
from rft.config.schema import GrpoLearner, VllmSampler
from rft.errors import ConfigError


def shares(threads: tuple[int, int], gpus: tuple[float, float]) -> Shares:
    return Shares(sampler_threads=threads[0], learner_threads=threads[1], sampler_gpus=gpus[0], learner_gpus=gpus[1])


@pytest.mark.parametrize(
    ("num_actors", "num_cpus", "num_gpus", "expected"),
    [
        (1, 2, 0, shares((1, 1), (0, 0))),
        (1, 8, 0, shares((4, 4), (0, 0))),
        (3, 8, 0, shares((2, 2), (0, 0))),
        (7, 2, 0, shares((1, 1), (0, 0))),  # more processes than cores: one thread each
        (1, 8, 1, shares((4, 4), (0.5, 0.5))),  # one GPU for two
        (3, 8, 4, shares((2, 2), (1, 1))),
        (1, 8, 8, shares((4, 4), (1, 1))),  # more GPUs than processes: one each
        (3, 8, 2, shares((2, 2), (0.5, 0.5))),
    ],
)
def test_shares_of_samplers_and_a_learner(num_actors: int, num_cpus: int, num_gpus: int, expected: Shares) -> None:
    sampler = VllmSampler(num_actors=num_actors)
    assert share_out(sampler, GrpoLearner(), num_cpus=num_cpus, num_gpus=num_gpus) == expected


def test_without_a_learner_the_samplers_get_everything() -> None:
    result = share_out(VllmSampler(num_actors=2), None, num_cpus=8, num_gpus=2)
    assert (result.sampler_threads, result.sampler_gpus) == (4, 1)


def test_what_is_configured_stands() -> None:
    sampler = VllmSampler(num_actors=1, num_threads=7, num_gpus=0.25)
    learner = GrpoLearner(num_threads=3, num_gpus=0.75)
    assert share_out(sampler, learner, num_cpus=2, num_gpus=1) == shares((7, 3), (0.25, 0.75))


def test_zero_gpus_run_on_the_cpu() -> None:
    assert share_out(VllmSampler(num_gpus=0), GrpoLearner(num_gpus=0), num_cpus=4, num_gpus=1) == shares((2, 2), (0, 0))


def test_gpus_of_the_learner_are_not_counted_where_there_is_none() -> None:
    assert share_out(VllmSampler(num_gpus=1), None, num_cpus=4, num_gpus=1).sampler_gpus == 1


def test_more_gpus_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        share_out(VllmSampler(num_actors=2, num_gpus=0.5), GrpoLearner(num_gpus=1), num_cpus=4, num_gpus=1)
    assert caught.value.problems == (
        "2 sampler(s) with 0.5 GPU(s) each and a learner with 1 want 2, but there are 1; lower sampler.num_actors, "
        "sampler.num_gpus or learner.num_gpus (0 runs on the CPU)",
    )


@pytest.mark.parametrize(("visible", "expected"), [("", 0), ("-1", 0), ("0", 1), ("2,3", 2)])
def test_only_visible_gpus_are_counted(monkeypatch: pytest.MonkeyPatch, visible: str, expected: int) -> None:
    monkeypatch.setattr(cluster.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert num_gpus_here() == expected


def test_gpus_are_counted_by_their_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cluster.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(cluster.os, "listdir", lambda folder: ["null", "nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"])
    assert num_gpus_here() == 2


def test_without_the_driver_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.shutil, "which", lambda name: None)
    assert num_gpus_here() == 0
