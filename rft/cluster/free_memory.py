"""Reads the free memory of this machine and of its GPUs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from rft.memory import Device

MEMINFO = Path("/proc/meminfo")
ASK_GPUS_S = 60.0
"""Seconds that the driver of the GPUs has to report their memory; it may have to start first."""


def device_here(num_gpus: int) -> Device:
    """Return the free memory of this machine and of its GPUs.

    Args:
        num_gpus: GPUs that the run uses here. Ray gives it free ones, so the GPUs with the most free memory count.
    """
    return Device(ram_bytes=_free_ram(), gpu_bytes=_free_gpu_memory(num_gpus))


def together(devices: Sequence[Device]) -> Device:
    """Return the main memory of all nodes, and the least of their GPUs."""
    gpus = [device.gpu_bytes for device in devices if device.gpu_bytes is not None]
    ram = [device.ram_bytes for device in devices if device.ram_bytes is not None]
    is_known = len(ram) == len(devices)
    return Device(ram_bytes=sum(ram) if is_known else None, gpu_bytes=min(gpus, default=None))


def _free_ram() -> int | None:
    """Return the bytes that new processes can use without swapping; None if the system does not report them."""
    if not MEMINFO.exists():
        return None
    lines = dict(line.split(":", 1) for line in MEMINFO.read_text(encoding="ascii").splitlines())
    available = lines.get("MemAvailable")
    return int(available.split()[0]) * 1024 if available else None


def _free_gpu_memory(num_gpus: int) -> int | None:
    """Return the bytes that are free on each of the freest visible GPUs; None without a GPU."""
    if not num_gpus or shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=index,memory.free", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=ASK_GPUS_S, check=False)
    except subprocess.TimeoutExpired:
        return None
    visible = {number.strip() for number in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")}
    free = {}
    for line in answer.stdout.splitlines():
        index, _, mebibytes = line.partition(",")
        if mebibytes.strip().isdigit():  # partitions of a GPU report "[N/A]"
            free[index.strip()] = int(mebibytes) * 2**20
    chosen = [num_bytes for index, num_bytes in free.items() if index in visible] or list(free.values())
    return min(sorted(chosen, reverse=True)[:num_gpus], default=None)
