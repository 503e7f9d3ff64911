"""What happens to a process: killed, ended, crashed, frozen, slowed down, its disk full, its file torn."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil

EXIT_SIGNAL = signal.SIGRTMIN + 4
"""Ends a Python process at once, as `os._exit` does, with the number of the signal as its exit code."""
SLOW_S = 3.0
"""Seconds for which a slow process stands still: less than every deadline of a cell."""
DRIVER_FREEZE_S = 25.0
"""Seconds for which a frozen driver stands still, more than the deadlines of its waits; nobody could replace it."""
FIND_S = 30.0
STRIKE_S = 5.0
POLL_S = 0.02
FULL_DISK_BYTES = 1
"""Size beyond which the process can write no file."""
TITLES = {
    "sampler": "ray::SamplerActor",
    "one of two samplers": "ray::SamplerActor",
    "learner": "ray::LearnerActor",
    "rank": "ray::RankActor",
}
"""Titles that Ray gives to the processes of actors."""
PROGRAMS = {"raylet": "raylet", "head": "gcs_server"}
GRADERS = "rft.grading.processes.worker_main"


def prepare_exit() -> None:
    """Let `EXIT_SIGNAL` end this process at once, without a handler of Python."""
    libc = ctypes.CDLL(None)
    libc.signal(int(EXIT_SIGNAL), ctypes.cast(libc._exit, ctypes.c_void_p))


def strike(fault: dict[str, Any], *, driver: int) -> None:
    """Strike the target of a fault, and wait until it is struck.

    Args:
        fault: The fault.
        driver: Process id of the driver; all other processes of the run descend from it.
    """
    victim = _victim(fault["target"], driver)
    kind = fault["kind"]
    if kind == "torn file":
        _tear(Path(fault["run"]), fault["target"])
        kind = "kill"
    if kind == "disk full":
        _, hard = resource.prlimit(victim.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(victim.pid, resource.RLIMIT_FSIZE, (FULL_DISK_BYTES, hard))
    elif kind == "slow" or (kind == "freeze" and fault["target"] == "driver"):
        _pause(victim, fault.get("seconds", SLOW_S if kind == "slow" else DRIVER_FREEZE_S))
    else:
        os.kill(victim.pid, _signal(kind, fault["target"]))
        _wait_until_struck(victim)


def _signal(kind: str, target: str) -> int:
    if kind == "exit":  # Ray's programs, and the command, end in order when they are asked to
        return signal.SIGTERM if target in ("raylet", "head", "driver") else EXIT_SIGNAL
    return {"kill": signal.SIGKILL, "segfault": signal.SIGSEGV, "freeze": signal.SIGSTOP}[kind]


def find(target: str, driver: int) -> list[psutil.Process]:
    """Return the processes of a run with this role, the oldest first.

    Args:
        target: `sampler`, `one of two samplers`, `learner`, `rank`, `fork server`, `grader worker`, `raylet`, `head` or
            `driver`.
        driver: Process id of the driver.
    """
    parent = psutil.Process(driver)
    if target == "driver":
        return [parent]
    processes = parent.children(recursive=True)
    return sorted((one for one in processes if _is(one, target, driver)), key=lambda one: (one.create_time(), one.pid))


def _is(process: psutil.Process, target: str, driver: int) -> bool:
    try:
        words = process.cmdline()
        if target in PROGRAMS:
            return process.name() == PROGRAMS[target]
        if target in TITLES:
            return bool(words) and words[0].startswith(TITLES[target])
        return GRADERS in words and (process.ppid() == driver) is (target == "fork server")
    except psutil.Error:  # it has just ended
        return False


def _victim(target: str, driver: int) -> psutil.Process:
    """Return the target of a fault: this process if it has the role, otherwise the youngest."""
    deadline = time.monotonic() + FIND_S
    while not (processes := find(target, driver)):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the run has no {target}")
        time.sleep(POLL_S)
    return next((process for process in processes if process.pid == os.getpid()), processes[-1])


def _wait_until_struck(victim: psutil.Process) -> None:
    """Wait until a process has ended or stands still; a program that ends in order may take longer than this."""
    deadline = time.monotonic() + STRIKE_S
    over = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    while time.monotonic() < deadline:
        try:
            if victim.status() in over:
                return
        except psutil.NoSuchProcess:
            return
        time.sleep(POLL_S)


def _pause(victim: psutil.Process, seconds: float) -> None:
    """Stop a process, and let another process continue it."""
    script = f"kill -STOP {victim.pid}; sleep {seconds}; kill -CONT {victim.pid}"
    other = subprocess.Popen(["/bin/sh", "-c", script], start_new_session=True)
    if victim.pid == os.getpid():
        other.wait()
    else:
        _wait_until_struck(victim)


def _tear(run: Path, target: str) -> None:
    """Damage the newest checkpoint, or the last lines of the driver's records, as a loss of power would."""
    if target == "driver":
        for name in ("metrics.jsonl", "rollouts.jsonl", "events.jsonl"):
            content = (run / name).read_bytes()
            last = content.rstrip(b"\n").rfind(b"\n") + 1
            (run / name).write_bytes(content[: (last + len(content)) // 2])
        return
    complete = [folder for folder in (run / "checkpoints").glob("checkpoint-*") if (folder / "complete.json").exists()]
    newest = max(complete, key=lambda folder: json.loads((folder / "complete.json").read_text())["step"])
    largest = max((file for file in newest.iterdir() if file.is_file()), key=lambda file: file.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
