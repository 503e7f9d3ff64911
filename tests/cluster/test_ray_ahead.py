"""Ray that starts while something else goes on; here a fake one."""

from __future__ import annotations

import asyncio
import math
import threading

import pytest
import ray

from rft.cluster import own_ray, ray_session, session
from rft.cluster.session import LOCAL, ray_ahead
from rft.config.clusters import LocalClusterConfig
from rft.errors import ClusterError, RayLost
from rft.reliability import limits


class FakeRay:
    """Says what was done with it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.may_start = threading.Event()
        self.problem: Exception | None = None
        monkeypatch.setattr(session, "_start", self._start)
        monkeypatch.setattr(ray, "shutdown", lambda: self.done.append("stopped"))

    def _start(self, num_processes: int) -> None:
        self.may_start.wait()
        if self.problem:
            raise self.problem
        self.done.append(f"started for {num_processes}")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    return FakeRay(monkeypatch)


async def address() -> str:
    async with ray_session(LocalClusterConfig(), num_processes=3) as found:
        return found


def test_a_session_takes_over_what_was_started_ahead(fake: FakeRay) -> None:
    with ray_ahead(LocalClusterConfig(), num_processes=3):
        assert fake.done == []  # the block goes on while Ray starts
        fake.may_start.set()
        assert asyncio.run(address()) == LOCAL
        assert fake.done == ["started for 3", "stopped"]
    assert set(fake.done[1:]) == {"stopped"}


def test_what_fails_in_the_block_is_raised_once_ray_is_stopped(fake: FakeRay) -> None:
    fake.may_start.set()
    with pytest.raises(ValueError, match="a bad task"), ray_ahead(LocalClusterConfig(), num_processes=3):
        raise ValueError("a bad task")
    assert fake.done == ["started for 3", "stopped"]


@pytest.mark.parametrize(
    ("problem", "free_mb", "remedy"),
    [
        (RuntimeError("the GCS failed"), 5000.0, "rft doctor checks this machine; .*/t/ray/session_latest/logs"),
        (RuntimeError("the GCS failed"), 0.4, r"make room in /t \(0 MB free\), or set RAY_TMPDIR to another folder"),
        (OSError("AF_UNIX path length cannot exceed 107 bytes"), 5000.0, "set RAY_TMPDIR to a folder with"),
        (RuntimeError("can't start new thread"), 0.4, "raise the limit of processes and threads"),
        (
            RuntimeError("no file"),
            5000.0,
            "only 30 processes and threads are allowed here; raise the limit of processes",
        ),
    ],
)
def test_a_ray_that_does_not_start(
    fake: FakeRay, monkeypatch: pytest.MonkeyPatch, problem: Exception, free_mb: float, remedy: str
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/t")
    monkeypatch.setattr(session, "free_mb", lambda folder: free_mb)
    monkeypatch.setattr(limits, "thread_limit", lambda: 30.0 if "file" in str(problem) else math.inf)
    fake.problem = problem
    fake.may_start.set()
    message = f"^Ray did not start: {problem}; {remedy}"
    with ray_ahead(LocalClusterConfig(), num_processes=3), pytest.raises(ClusterError, match=message):
        asyncio.run(address())


def test_a_session_alone_starts_its_own(fake: FakeRay) -> None:
    fake.may_start.set()
    assert asyncio.run(address()) == LOCAL
    assert fake.done == ["started for 3", "stopped"]
    assert asyncio.run(address()) == LOCAL
    assert fake.done == ["started for 3", "stopped"] * 2


def test_inside_of_a_ray_job_nothing_is_started(fake: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(session.JOB_CONFIG, "{}")
    with ray_ahead(LocalClusterConfig(), num_processes=3):
        pass
    assert fake.done == []


def test_rays_node_has_the_methods_that_are_left_out() -> None:
    from ray._private.node import Node

    before = [getattr(Node, name) for name in own_ray.HELPERS]
    with own_ray.few_processes():
        assert [getattr(Node, name) is method for name, method in zip(own_ray.HELPERS, before, strict=True)] == [
            False,
            False,
            False,
        ]
    assert [getattr(Node, name) for name in own_ray.HELPERS] == before


def test_a_ray_that_does_not_stop_is_lost(fake: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.may_start.set()
    is_over = threading.Event()
    monkeypatch.setattr(ray, "shutdown", is_over.wait)
    monkeypatch.setattr(session, "STOP_S", 0.0)
    with pytest.raises(RayLost, match="did not stop within 0 s"), ray_ahead(LocalClusterConfig(), num_processes=3):
        pass
    with pytest.raises(RayLost) as lost, ray_ahead(LocalClusterConfig(), num_processes=3):
        raise ValueError("a bad task")
    assert lost.value.__notes__ == ["Before that: a bad task"]
    is_over.set()
