"""Measures the other work on the machine while an arm runs, since figures of a busy machine mean little."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import psutil

POLL_S = 0.5


class OtherLoad:
    """The mean number of cores that other processes keep busy until `stop`.

    Args:
        pid: The arm's process; its descendants belong to the arm.
    """

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._own: dict[int, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._busy_before = busy_s()
        self._waited_s = 0.0
        self._thread.start()

    def stop(self, wall_s: float) -> float:
        """Stop measuring; return the number of cores that other processes used."""
        self._ended.set()
        self._thread.join()
        others = busy_s() - self._busy_before - sum(self._own.values())
        return max(0.0, others / wall_s)

    def _watch(self) -> None:
        while not self._ended.wait(POLL_S):
            self._look()

    def _look(self) -> None:
        try:
            processes = [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in processes:
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            self._own[process.pid] = times.user + times.system


def busy_s() -> float:
    """Return the seconds of work of all cores together since the machine started."""
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    user, nice, system, _, _, irq, softirq, *_ = map(int, fields)
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
