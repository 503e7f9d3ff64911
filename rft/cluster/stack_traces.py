"""Collects the stacks of a run's Ray actors, on this machine and on other nodes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from rft.cluster.nodes import Node, nodes_of_cluster
from rft.errors import RftError
from rft.waiting import blocking

ACTOR = re.compile(r"ray::((?:Sampler|Learner|Rank|Scorer)Actor)\b")
"""Title of a process that calls `write_stacks_on_signal`. Ray appends the running method."""
ANSWER_S = 2.0
"""Seconds that processes have to write their stacks."""
QUIET_S = 0.2
"""Seconds without further output after which the stacks of a process are complete."""
POLL_S = 0.05
NODE_S = 10.0
"""Seconds that a node has to start a worker and to collect the stacks of its processes."""


async def actor_stacks() -> dict[str, str]:
    """Return the stacks of this run's actors by process, or the reason why a process or node gave none."""
    from ray._private import worker

    node = worker._global_node
    if node is None:
        return {}
    try:
        if node.is_head():  # started by this process
            raylet, logs = node.all_processes["raylet"][0].process.pid, Path(node.get_logs_dir_path())
            return await blocking(lambda: stacks_below(raylet, logs), what="the actors' stacks", deadline_s=NODE_S)
        nodes = await blocking(nodes_of_cluster, what="the nodes of the cluster", deadline_s=NODE_S)
    except RftError as error:
        return {"actors": f"no answer: {error}\n"}
    answers = await asyncio.gather(*map(_stacks_on, nodes))
    return {name: text for answer in answers for name, text in answer.items()}


async def _stacks_on(node: Node) -> dict[str, str]:
    """Return the stacks of a node's actors, from a Ray task there."""
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    strategy = NodeAffinitySchedulingStrategy(node.id, soft=False)
    task = ray.remote(stacks_here).options(num_cpus=0, max_retries=0, scheduling_strategy=strategy)
    try:
        async with asyncio.timeout(NODE_S):
            stacks: dict[str, str] = await task.remote()
    except (RayError, TimeoutError) as error:
        return {f"node-{node.name}": f"no answer within {NODE_S:g} s: {type(error).__name__}: {error}\n"}
    return {f"{process}-on-{node.name}": text for process, text in stacks.items()}


def stacks_here() -> dict[str, str]:
    """Return the stacks of the actors on this node, by process. Runs in a Ray task."""
    import psutil
    from ray._private import worker

    raylet = next(parent for parent in psutil.Process().parents() if parent.name() == "raylet")
    return stacks_below(raylet.pid, Path(worker._global_node.get_logs_dir_path()))


@dataclass
class _Asked:
    """A process that has received SIGUSR1, and its log."""

    name: str
    pid: int
    log: Path
    start: int
    """Size of the log before, bytes."""
    size: int
    """Last known size of the log."""
    changed: float
    """`time.monotonic()` of the last change."""

    def is_done(self) -> bool:
        if (size := self.log.stat().st_size) != self.size:
            self.size, self.changed = size, time.monotonic()
        return self.size > self.start and time.monotonic() - self.changed >= QUIET_S

    def answer(self) -> str:
        with self.log.open("rb") as opened:
            opened.seek(self.start)
            return opened.read().decode(errors="replace")


def stacks_below(raylet: int, logs: Path) -> dict[str, str]:
    """Return the stacks of the actors that a raylet of this machine has started, by process. Blocks.

    Args:
        raylet: Process of the raylet.
        logs: Folder of Ray's log files.
    """
    import psutil

    try:
        processes = psutil.Process(raylet).children(recursive=True)
    except psutil.NoSuchProcess:
        return {"raylet": "no answer: it has ended\n"}
    asked: list[_Asked] = []
    stacks: dict[str, str] = {}
    for process in processes:
        try:
            if (title := ACTOR.match(" ".join(process.cmdline()))) is None:
                continue
            name, log = f"{title[1]}-{process.pid}", next(logs.glob(f"worker-*-{process.pid}.err"), None)
            if log is None or not handles_signal(process.pid):
                stacks[name] = "no answer: the process is starting or ending\n"
                continue
            size = log.stat().st_size
            asked.append(_Asked(name, process.pid, log, size, size, time.monotonic()))
            os.kill(process.pid, signal.SIGUSR1)
        except (psutil.Error, ProcessLookupError):  # it has ended
            continue
    ends = time.monotonic() + ANSWER_S
    while time.monotonic() < ends and [one for one in asked if not one.is_done()]:
        time.sleep(POLL_S)
    return stacks | {one.name: one.answer() or _silence(one.pid) for one in asked}


def handles_signal(pid: int) -> bool:
    """Whether a process of Linux has a handler for SIGUSR1. Without one, the signal would end it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGUSR1 - 1) & 1)


def _silence(pid: int) -> str:
    import psutil

    try:
        state = f"is {psutil.Process(pid).status()}"
    except psutil.NoSuchProcess:
        state = "has ended"
    return f"no answer within {ANSWER_S:g} s: the process {state}\n"
