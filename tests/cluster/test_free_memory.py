"""Free memory, from what the system and the driver of the GPUs report."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from rft.cluster import free_memory
from rft.cluster.free_memory import together
from rft.memory import Device

MEMINFO = "MemTotal:       16384 kB\nMemFree:         1024 kB\nMemAvailable:    8192 kB\n"


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file in the place of /proc/meminfo."""
    file = tmp_path / "meminfo"
    file.write_text(MEMINFO)
    monkeypatch.setattr(free_memory, "MEMINFO", file)
    return file


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch, reported: Path) -> None:
    monkeypatch.setattr(free_memory.shutil, "which", lambda name: None)
    assert free_memory.device_here(1) == Device(ram_bytes=8192 * 1024, gpu_bytes=None)
    reported.unlink()
    assert free_memory.device_here(1).ram_bytes is None


@pytest.mark.parametrize(
    ("visible", "answer", "num_gpus", "expected"),
    [
        (None, "0, 24000\n1, 20000\n", 2, 20_000 * 2**20),
        (None, "0, 24000\n1, 20000\n", 3, 20_000 * 2**20),
        # Another run, or the samplers of a sweep, use the second one.
        (None, "0, 24000\n1, 2000\n", 1, 24_000 * 2**20),
        (None, "0, 24000\n1, 2000\n2, 23000\n", 2, 23_000 * 2**20),
        ("0", "0, 24000\n1, 20000\n", 1, 24_000 * 2**20),
        # A GPU by its id: which of them is unknown.
        ("GPU-5a", "0, 24000\n1, 20000\n", 2, 20_000 * 2**20),
        (None, "0, 24000\n", 0, None),
        (None, "0, [N/A]\n", 1, None),
        (None, "", 1, None),
    ],
)
def test_the_least_of_the_gpus_that_a_run_can_use(
    monkeypatch: pytest.MonkeyPatch,
    reported: Path,
    visible: str | None,
    answer: str,
    num_gpus: int,
    expected: int | None,
) -> None:
    monkeypatch.setattr(free_memory.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(free_memory.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=answer))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert free_memory.device_here(num_gpus).gpu_bytes == expected


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ([Device(ram_bytes=5, gpu_bytes=7), Device(ram_bytes=6, gpu_bytes=3)], Device(ram_bytes=11, gpu_bytes=3)),
        ([Device(ram_bytes=5, gpu_bytes=7), Device(ram_bytes=None)], Device(ram_bytes=None, gpu_bytes=7)),
        ([Device(ram_bytes=5)], Device(ram_bytes=5)),
    ],
)
def test_the_nodes_of_a_cluster_together(devices: list[Device], expected: Device) -> None:
    assert together(devices) == expected
