"""Runs on clusters of several nodes, which all sit on this machine.

Each cluster ends with its test, whatever happens: its processes are known by a mark in their environment.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from rft.run_folder.recorder import read_metrics, read_rollouts

pytestmark = [pytest.mark.e2e, pytest.mark.full]

BIN = Path(sys.executable).parent
MARK = "RFT_TEST_CLUSTER"
DEADLINE_S = 240.0
STARTS = 3
FAKE = ("sampler=fake", "learner=fake", "graders.correct.use=exact")


class Cluster:
    """A head and nodes, as an operator starts them: `ray start --block`, with token authentication.

    Args:
        folder: For Ray's own files and the token.
        cpus: Of each node; the first is the head's.
        make_user: Makes its user.
    """

    def __init__(self, folder: Path, cpus: tuple[int, ...], make_user: Callable[..., Any]) -> None:
        self.mark = uuid.uuid4().hex
        token = folder / "token"
        token.write_text(uuid.uuid4().hex)
        marked = {MARK: self.mark, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        self.user = make_user(folder, marked, address="")
        self.folder = folder
        # Ray's sockets must have short paths.
        self.temporary = Path("/tmp") / f"rft-test-{self.mark[:8]}"
        try:
            self._until_up("head", lambda: self._start_head(cpus[0]))
            for number, num_cpus in enumerate(cpus[1:], 1):
                self._until_up(f"node {number}", lambda num_cpus=num_cpus: self._start_node(num_cpus))
            self._until_there(len(cpus))
        except BaseException:
            self.end()
            raise

    def _start_head(self, num_cpus: int) -> subprocess.Popen[bytes]:
        self.user.address = f"127.0.0.1:{free_port()}"
        self.dashboard = f"127.0.0.1:{free_port()}"
        port, dashboard_port = self.user.address.rpartition(":")[2], self.dashboard.rpartition(":")[2]
        ports = [f"--port={port}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard_port}"]
        return self._start("--head", *ports, f"--temp-dir={self.temporary}", f"--num-cpus={num_cpus}")

    def _start_node(self, num_cpus: int) -> subprocess.Popen[bytes]:
        return self._start(f"--address={self.user.address}", f"--num-cpus={num_cpus}")

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / "ray.log").open("wb") as log:
            return subprocess.Popen(
                # Ports that nobody else here has: those that Ray takes by default are for one node a machine.
                [
                    *(BIN / "ray", "start", "--block", "--num-gpus=0", "--object-store-memory=100000000"),
                    *("--min-worker-port=0", "--max-worker-port=0", f"--dashboard-agent-listen-port={free_port()}"),
                    *("--node-ip-address=127.0.0.1", *words),
                ],
                env=self.user.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _until_up(self, what: str, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        """Start a node and wait for it; once more, on other ports, where somebody took one of its ports meanwhile."""
        said = ""
        for _ in range(STARTS):
            node, ends = start(), time.monotonic() + DEADLINE_S / STARTS
            while time.monotonic() < ends and node.poll() is None:
                said = (self.folder / "ray.log").read_text(errors="replace")
                if "Ray runtime started." in said:
                    return
                time.sleep(0.1)
            kill_group(node)
        raise AssertionError(f"{what} did not come up; it says:\n{said}")

    def _until_there(self, num_nodes: int) -> None:
        """Wait until a program that joins the cluster sees so many nodes."""
        program = (
            "import sys, ray\n"
            "ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR')\n"
            "print(sum(node['Alive'] for node in ray.nodes()))"
        )
        said, ends = "", time.monotonic() + DEADLINE_S
        while not said.endswith(f"{num_nodes}\n"):
            assert time.monotonic() < ends, f"there are no {num_nodes} nodes: {said}"
            said = self.user.run(sys.executable, "-c", program, self.user.address).output

    def processes(self) -> set[psutil.Process]:
        """All that belong to it: those with the mark, and their children, some of which have written over theirs."""
        found = set()
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark:
                    found |= {process, *process.children(recursive=True)}
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def end(self) -> None:
        """Kill all that belong to it, and leave nothing of it."""
        for process in self.processes():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        shutil.rmtree(self.temporary, ignore_errors=True)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=DEADLINE_S)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, make_user: Callable[..., Any]) -> Iterator[Cluster]:
    """A head without CPUs, two rollout nodes and a learner's node."""
    made = Cluster(tmp_path_factory.mktemp("cluster"), cpus=(0, 1, 1, 1), make_user=make_user)
    try:
        yield made
    finally:
        made.end()


def test_a_run_over_three_nodes(cluster: Cluster) -> None:
    done = cluster.user.train(*FAKE, "sampler.num_actors=2", "loop.steps=3", "loop.checkpoint_every_steps=2")
    assert done.code == 0
    assert "Traceback" not in done.output
    assert f"cluster {cluster.user.address}: 4 nodes, 3 CPUs, 0 GPUs" in done.output
    assert sorted(done.gets.values()) == [
        "1 learner (1 CPU each)",
        "1 sampler (1 CPU each)",
        "1 sampler (1 CPU each)",
        "the driver and the graders",
    ]
    run = cluster.folder / "run"
    assert [line["step"] for line in read_metrics(run)] == [0, 1, 2, 3]
    assert len(list(read_rollouts(run, "train"))) == 3 * 2 * 4
    assert (run / "checkpoints" / "checkpoint-3" / "complete.json").is_file()


def test_without_the_token(cluster: Cluster) -> None:
    wrong = cluster.folder / "wrong"
    wrong.write_text(uuid.uuid4().hex)
    done = cluster.user.train(*FAKE, run="wrong-token", RAY_AUTH_TOKEN_PATH=str(wrong))
    assert done.code == 1
    message = done.message
    assert f"the Ray cluster at {cluster.user.address} refuses: " in message
    assert "RAY_AUTH_TOKEN" in message
    assert "Traceback" not in message


def test_as_a_ray_job(cluster: Cluster, small: tuple[str, ...]) -> None:
    """The same command without a word about the cluster: it finds itself in one, where all is free again."""
    pytest.importorskip("aiohttp_cors", reason="jobs need ray[default] at the head: pip install 'rft[cluster]'")
    address = f"http://{cluster.dashboard}"
    run = cluster.folder / "job"
    words = (*small, *FAKE, "sampler.num_actors=2", "loop.steps=2", f"output_dir={run}")
    entry = (sys.executable, "-m", "rft.cli", "train", *words)
    done = cluster.user.run(BIN / "ray", "job", "submit", f"--address={address}", "--", *entry)
    assert done.code == 0
    assert f":{cluster.user.address.rpartition(':')[2]}: 4 nodes" in done.output
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"
