"""Ray that starts while something else goes on; here a fake one."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
from pathlib import Path
from types import SimpleNamespace

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

    def _start(self, num_processes: int, *, deadline_s: float) -> None:
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


def test_a_free_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        taken = own_ray.free_port()
        assert taken in own_ray.PORTS
        listener.bind(("127.0.0.1", taken))
        listener.listen()
        monkeypatch.setattr(own_ray, "PORTS", range(taken, taken + 1))
        with pytest.raises(OSError, match=f"none of the ports {taken} to {taken} is free; Ray needs one"):
            own_ray.free_port()


def test_inside_of_a_ray_job_nothing_is_started(fake: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(session.JOB_CONFIG, "{}")
    with ray_ahead(LocalClusterConfig(), num_processes=3):
        pass
    assert fake.done == []


def test_what_is_left_out_of_ray_is_there_afterwards() -> None:
    from ray._private import services, utils
    from ray._private.node import Node

    parts = [(Node, name) for name in (*own_ray.HELPERS, "start_raylet")]
    parts += [(services, own_ray.AGENT_COMMAND), (utils, "get_dashboard_dependency_error")]
    before = [getattr(owner, name) for owner, name in parts]
    with own_ray.few_processes():
        during = [getattr(owner, name) for owner, name in parts]
        assert not any(new is old for new, old in zip(during, before, strict=True))
        assert utils.get_dashboard_dependency_error() is not None
    assert [getattr(owner, name) for owner, name in parts] == before


def test_a_raylet_finds_the_ports_of_its_agents(tmp_path: Path) -> None:
    from ray import _raylet
    from ray._private.parameter import RayParams

    node = SimpleNamespace(
        _session_dir=str(tmp_path), _node_id=_raylet.NodeID.from_random().hex(), _ray_params=RayParams()
    )
    own_ray._write_ports(node)
    assert sorted(file.read_text() for file in tmp_path.iterdir()) == ["-1", "-1", "-1"]
    assert node._ray_params.runtime_env_agent_port in own_ray.PORTS


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
