"""The memory that a run's processes can use."""

from __future__ import annotations

from dataclasses import dataclass

GB = 10**9
"""Bytes of a gigabyte, as on the label of a GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The free memory of a machine before a run starts.

    Example:
        Device(ram_bytes=64_000_000_000, gpu_bytes=24_000_000_000)
    """

    ram_bytes: int | None
    """Free main memory; None if unknown."""
    gpu_bytes: int | None = None
    """Least free memory of the GPUs that the run can use; None without a GPU, or if unknown."""


def in_gb(num_bytes: float) -> str:
    """Format bytes: `12.3 GB`, or `45.6 MB` below 0.1 GB."""
    return f"{num_bytes / GB:.1f} GB" if num_bytes >= GB / 10 else f"{num_bytes / 1e6:.1f} MB"
