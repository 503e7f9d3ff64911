"""Waits until a GPU has room for an engine.

A killed process frees its memory some time after its end. vLLM fails if there is too little free memory when it starts,
and also if free memory grows while it sizes its cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rft.errors import WaitTimeout
from rft.waiting import waiting

DEADLINE_S = 120.0
POLL_S = 0.5
QUERY_S = 60.0
"""Deadline of nvidia-smi."""
STEADY_MIB = 64
"""Growth of free memory between two readings below which the memory counts as steady."""


class GpuMemory(NamedTuple):
    """Memory of one GPU, in MiB."""

    free: int
    total: int


def memory_here() -> list[GpuMemory]:
    """Return the memory of each GPU of this process.

    Empty if nvidia-smi is missing, fails, does not answer in time or reports none.
    """
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    query = [command, "--query-gpu=memory.free,memory.total", "--format=csv,noheader,nounits"]
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        query.append(f"--id={visible}")
    try:
        reply = subprocess.run(query, capture_output=True, text=True, timeout=QUERY_S, check=False)
    except subprocess.TimeoutExpired:
        return []
    if reply.returncode:  # a partition of a GPU (MIG), for example
        return []
    readings = [line.split(",") for line in reply.stdout.splitlines() if line.strip()]
    try:
        return [GpuMemory(int(free), int(total)) for free, total in readings]
    except ValueError:  # "[N/A]": a GPU that shares the main memory
        return []


def wait_for_room(
    share: float,
    *,
    read: Callable[[], Sequence[GpuMemory]] = memory_here,
    pause: Callable[[float], None] = time.sleep,
    deadline_s: float = DEADLINE_S,
) -> None:
    """Wait until this share of each GPU is free, and free memory no longer grows.

    Args:
        share: Share of a GPU's memory that an engine may use.
        read: Returns the memory of each GPU.
        pause: Waits for some seconds.
        deadline_s: Seconds until the deadline, counted in pauses.

    Raises:
        WaitTimeout: The memory is not free at the deadline. The message contains the free memory.
    """
    before = read()
    with waiting("the memory of the GPU to be free", deadline_s=deadline_s):
        for _ in range(int(deadline_s / POLL_S)):
            pause(POLL_S)
            now = read()
            has_room = all(gpu.free >= share * gpu.total for gpu in now)
            # The driver may have answered only once.
            is_steady = all(new.free - old.free < STEADY_MIB for old, new in zip(before, now, strict=False))
            if has_room and is_steady:
                return
            before = now
    figures = ", ".join(f"{gpu.free:,} of {gpu.total:,} MiB" for gpu in before)
    raise WaitTimeout(
        f"{share:.0%} of the GPU's memory for a sampler (free: {figures}; nvidia-smi lists the processes that use it)",
        deadline_s,
    )
