"""The processes that others have started."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import psutil


def descendants(pids: Iterable[int]) -> set[psutil.Process]:
    """Return what these processes have started, and what those have, from one look at all processes of the machine.

    `psutil.Process.children(recursive=True)` takes a look for each of the processes.
    """
    children = defaultdict(list)
    for process in psutil.process_iter(["ppid"]):
        children[process.info["ppid"]].append(process)
    found: set[psutil.Process] = set()
    parents = list(pids)
    while parents:
        started = children.pop(parents.pop(), [])
        found.update(started)
        parents += [process.pid for process in started]
    return found
