"""Runs over several nodes: each is a raylet of its own on this machine (`ray.cluster_utils`)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sysconfig
import time
import uuid
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import rft
from rft.cluster.own_ray import few_processes
from rft.errors import RayLost
from rft.run_folder.recorder import read_metrics, read_rollouts

pytestmark = pytest.mark.e2e

FAKE = ("sampler=fake", "learner=fake", "graders.correct.use=exact")
STALL_S = 300.0
"""Not what ends a run whose node has died."""
SILENCE_S = 20.0
ENVIRONMENT = """
import os
import signal
from own_words import QUESTION

async def twice(task, policy):
    first = await policy()
    with open("hosts", "a") as file:
        file.write(f"{os.getppid()}\\n")
        file.flush()
        is_to_end = os.fstat(file.fileno()).st_size > 40
    if is_to_end and not os.path.exists("ended"):
        try:
            open("ended", "x").close()
        except FileExistsError:
            pass
        else:
            os.kill(os.getppid(), signal.SIGKILL)
    second = await policy(QUESTION)
    return (len(first.text) + len(second.text)) % 2
"""
"""Its host dies once, after about six first turns."""
SMALL = {"include_log_monitor": False, "object_store_memory": 100_000_000}


class Nodes:
    """A head without CPUs, and nodes with one each.

    Args:
        folder: Where the user's commands run.
        make_user: Makes the user.
        names: Of the nodes besides the head.
    """

    def __init__(self, folder: Path, make_user: Callable[..., Any], names: tuple[str, ...]) -> None:
        from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
        from ray.cluster_utils import Cluster

        ensure_token_if_auth_enabled()
        self.cluster = Cluster()
        # Ray's sockets must have short paths.
        self.temporary = Path("/tmp") / f"rft-test-{uuid.uuid4().hex[:8]}"
        self.by_name: dict[str, Any] = {}
        try:
            self.add("head", num_cpus=0, include_dashboard=False, temp_dir=str(self.temporary))
            for name in names:
                self.add(name, num_cpus=1)
        except BaseException:
            self.end()
            raise
        self.user = make_user(folder, {}, self.cluster.address)

    def add(self, name: str, **how: Any) -> None:
        """A node more. Ray's processes that serve a dashboard are left out: each imports for seconds."""
        with few_processes():
            self.by_name[name] = self.cluster.add_node(node_name=name, **SMALL, **how)

    def kill(self, name: str) -> None:
        """A node's machine is gone."""
        self.cluster.remove_node(self.by_name.pop(name), allow_graceful=False)

    def end(self) -> None:
        """End all, and leave nothing."""
        self.cluster.shutdown()
        shutil.rmtree(self.temporary, ignore_errors=True)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory, make_user: Callable[..., Any]) -> Iterator[Nodes]:
    """Four nodes beside the head, for all tests in turn; who kills one brings another."""
    made = Nodes(tmp_path_factory.mktemp("nodes"), make_user, ("rollout-1", "rollout-2", "learner-1", "learner-2"))
    yield made
    made.end()


@pytest.mark.parametrize("engine", ["transformers", pytest.param("vllm", marks=pytest.mark.full)])
def test_samplers_on_two_nodes_and_the_learners_ranks_on_two(nodes: Nodes, engine: str) -> None:
    """Environments run beside the samplers, and one of their hosts dies."""
    write_environment(nodes.user.folder)
    words = ("learner.num_workers=2", "learner.completions_per_micro_batch=4", "loop.steps=2", f"sampler={engine}")
    environment = (*EPISODES, "environment.placement=samplers")
    threads = ("sampler.num_threads=1", "learner.num_threads=1")
    done = nodes.user.train(*words, *environment, "sampler.num_actors=2", *threads, run=engine)
    assert done.code == 0
    gets = done.gets
    assert gets.pop("head") == "the driver and the graders"
    assert sorted(gets.values()) == ["1 learner (1 CPU each)"] * 2 + ["1 sampler (1 CPU each)"] * 2
    steps = read_metrics(nodes.user.folder / engine)[1:]
    assert [line["policy"]["version"] for line in steps] == [1, 2]
    for line in steps:
        assert line["metrics"]["sync/actors"] == 2.0
        assert line["metrics"]["sync/proved"] == 1.0
        assert line["metrics"]["learner/sampling/sampling_logp_difference/max"] < 1e-3

    assert_played_on(nodes.user.folder, engine, [name for name, got in gets.items() if "sampler" in got])


EPISODES = (
    "environment.use=my_env.py:twice",
    "environment.num_workers=1",
    "~graders.correct",
    "sampler.max_completion_tokens=24",
)


def write_environment(folder: Path) -> None:
    """Write an environment and a module that it imports; forget what it wrote in another run."""
    (folder / "my_env.py").write_text(ENVIRONMENT)
    (folder / "own_words.py").write_text('QUESTION = "now 1 + 1"\n')
    shutil.rmtree(folder / "node" / "code", ignore_errors=True)
    for name in ("hosts", "ended"):
        (folder / name).unlink(missing_ok=True)


def assert_played_on(folder: Path, run: str, samplers: list[str]) -> None:
    """Check that all nodes with samplers played episodes, and that the death of a host cost no reward."""
    metrics = [line["metrics"] for line in read_metrics(folder / run)[1:]]
    for name in samplers:
        assert max(each[f"environment/open_max/{name}"] for each in metrics) >= 1
    assert sum(each.get("recovery/environment_hosts", 0) for each in metrics) == 1
    [there] = (folder / "node" / "code").iterdir()
    assert len({*(there / "hosts").read_text().split()}) >= len(samplers)  # a late host may have played none
    assert not (folder / "hosts").exists()
    rollouts = list(read_rollouts(folder / run, "train"))
    assert len(rollouts) == 2 * 2 * 4
    for rollout in rollouts:
        assert "environment error" not in rollout["scores"]["environment"].get("status", "")
        policys = [turn["messages"][0]["content"] for turn in rollout["turns"] if turn["author"] == "policy"]
        if len(policys) == 2 and rollout["stop"] == "stop":
            assert rollout["reward"] == sum(map(len, policys)) % 2
    assert any(len(rollout["turns"]) == 3 for rollout in rollouts)


@pytest.mark.full
def test_environments_on_the_nodes_make_the_same_policy_as_on_the_driver(nodes: Nodes) -> None:
    words = ("loop.steps=2", "sampler=transformers", "sampler.num_actors=2", "sampler.num_threads=1")
    policies = {}
    for placement in ("driver", "samplers"):
        write_environment(nodes.user.folder)
        if placement == "driver":  # nothing is to end the driver
            (nodes.user.folder / "ended").touch()
        run = f"placed-{placement}"
        done = nodes.user.train(
            *words, *EPISODES, f"environment.placement={placement}", "learner.num_threads=1", run=run
        )
        assert done.code == 0
        policies[placement] = [line["policy"] for line in read_metrics(nodes.user.folder / run)]
    assert policies["driver"] == policies["samplers"]
    assert len({policy["fingerprint"] for policy in policies["driver"]}) == 3


@pytest.mark.full
def test_more_than_there_is_room_for(nodes: Nodes) -> None:
    many = ("sampler.num_actors=5", "sampler.min_actors=5")
    done = nodes.user.train(*FAKE, *many, "cluster.placement_timeout_s=2", "loop.steps=1", run="large")
    assert done.code == 2
    message = done.message
    assert "no place for 2 of 5 sampler(s), which need 1 CPU each on one node" in message or (
        "no place for 1 of 5 sampler(s)" in message and "no place for 1 of 1 learner(s)" in message
    )
    assert "after 2 s (cluster.placement_timeout_s) there is" in message
    assert message.count("1 of 1 CPUs") == 4
    assert "lower sampler.num_actors" in message
    assert json.loads((nodes.user.folder / "large" / "summary.json").read_text())["status"] == "failed"


@pytest.mark.full
def test_a_grid_of_four_shares_a_fleet(nodes: Nodes) -> None:
    """After a node was lost and another one came, the cluster is as good as before."""
    settings = ("learner.learning_rate=1e-4,1e-3", "seed=0,1", "hydra.launcher.max_parallel_trials=2")
    done = nodes.user.grid(*FAKE, *settings, "loop.steps=3")
    assert done.code == 0
    assert "4 trials, 2 at a time" in done.output
    assert "trials share samplers; sets of samplers, used in turn: 1" in done.output
    sweep = nodes.user.folder / "sweep"
    assert [trial["status"] for trial in json.loads((sweep / "sweep.json").read_text())["trials"]] == ["finished"] * 4
    for number in range(4):
        assert [line["policy"]["version"] for line in read_metrics(sweep / str(number))] == [0, 1, 2, 3]
        assert len(list(read_rollouts(sweep / str(number), "train"))) == 3 * 2 * 4


@pytest.mark.full
def test_a_node_with_another_rft_and_without_vllm(nodes: Nodes, tmp_path: Path) -> None:
    with foreign_node(nodes.cluster.address, tmp_path):
        # Of its two places at least one is a sampler's.
        done = nodes.user.train("sampler.num_actors=5", "cluster.ship_code=false", run="refused")
    assert done.code == 2
    assert f"node foreign has rft 0.0.9, the driver has {rft.__version__}" in done.message
    assert "node foreign has no vllm; install vllm 0.32.0 there" in done.message
    assert done.message.count("  - ") == 2


@contextmanager
def foreign_node(address: str, folder: Path) -> Iterator[None]:
    """A node with a Python environment of its own: all that is installed here but vLLM, and another rft."""
    venv.create(folder / "venv", symlinks=True)
    here = Path(sysconfig.get_path("purelib"))
    there = next(folder.glob("venv/lib/python*/site-packages"))
    for installed in here.iterdir():
        if not installed.name.lower().lstrip("_").startswith(("vllm", "rft", "editable")):
            (there / installed.name).symlink_to(installed)
    (there / "rft").mkdir()
    (there / "rft" / "__init__.py").write_text('__version__ = "0.0.9"\n')
    start = ("-m", "ray.scripts.scripts", "start", "--block", f"--address={address}", "--node-name=foreign")
    how = ("--num-cpus=2", "--num-gpus=0", "--object-store-memory=100000000")
    ports = ("--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (folder / "ray.log").open("wb") as log:
        node = subprocess.Popen(
            [folder / "venv" / "bin" / "python", *start, *how, *ports],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()
        print((folder / "ray.log").read_text(errors="replace"))


def test_nodes_that_come_and_go_and_a_head_that_dies(nodes: Nodes) -> None:
    """The last test: no cluster is left. Four samplers and a learner start on four nodes, so one sampler waits."""
    # A step takes a second, nearly all of it in the samplers, which otherwise keep all CPUs busy for minutes.
    slow = ("sampler.completions_per_s=4", "loop.steps=1000000")
    settings = (f"sampler.stall_timeout_s={STALL_S}", "cluster.placement_timeout_s=1", *slow)
    run = nodes.user.begin_training(*FAKE, "sampler.num_actors=4", *settings, run="run")
    folder = nodes.user.folder / "run"
    run.until_step(2, "run")
    assert "warning: only 3 of 4 samplers have a place (sampler.min_actors=1)" in run.output
    nodes.add("later", num_cpus=1)
    run.until_line(r"sampler 3 on node later joined and proved its policy")
    run.until_step(len(read_metrics(folder)) + 2, "run")

    nodes.kill("later")
    run.until_line(r"warning: sampler 3 on node later is gone")
    nodes.add("spare", num_cpus=1)
    run.until_line(r"sampler 3 on node spare was replaced and proved its policy")

    nodes.by_name["head"].kill_gcs_server()
    killed = time.monotonic()
    done = run.end()
    waited_s = time.monotonic() - killed
    assert done.code == RayLost.exit_code
    assert "Traceback" not in done.output
    silent = f"the Ray head at {nodes.user.address} has been silent for {SILENCE_S:g} s while the run was under way"
    assert silent in done.message
    assert waited_s > SILENCE_S - 5, "a head that is slow for a moment is not given up"
    steps = [line["metrics"] for line in read_metrics(folder) if line["step"]]
    num_samplers = [metrics["sync/actors"] for metrics in steps]
    assert (num_samplers[0], max(num_samplers)) == (3.0, 4.0)
    assert [metrics["recovery/joined_samplers"] for metrics in steps if "recovery/joined_samplers" in metrics] == [1.0]
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["recovery"]) == ("failed", {"joined_samplers": 1, "sampler_restarts": 1})
