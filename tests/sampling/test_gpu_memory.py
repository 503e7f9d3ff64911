"""Waiting for a GPU's memory, with readings by hand."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest

from rft.errors import WaitTimeout
from rft.sampling import gpu_memory
from rft.sampling.gpu_memory import GpuMemory, memory_here, wait_for_room


class Readings:
    """Returns one reading after the other, of GPUs with 1,000 MiB."""

    def __init__(self, *free: tuple[int, ...]) -> None:
        self._free = list(free)
        self.pauses = 0

    def read(self) -> list[GpuMemory]:
        return [GpuMemory(free, 1000) for free in (self._free.pop(0) if len(self._free) > 1 else self._free[0])]

    def pause(self, seconds: float) -> None:
        self.pauses += 1


@pytest.mark.parametrize(
    ("free", "pauses"),
    [
        ([(900,)], 1),
        ([(300,), (900,), (900,)], 2),  # a killed process has gone
        ([(500,), (700,), (900,), (900,)], 3),  # room enough, but memory is still being freed
        ([(900,), (850,)], 1),  # another process may take some
        ([(900, 100), (900, 900), (900, 900)], 2),  # both GPUs
        ([()], 1),  # nothing is known
        ([(900,), ()], 1),  # the driver answers no more
    ],
)
def test_room_that_no_longer_grows(free: list[tuple[int, ...]], pauses: int) -> None:
    readings = Readings(*free)
    wait_for_room(0.4, read=readings.read, pause=readings.pause)
    assert readings.pauses == pauses


def test_room_that_does_not_come() -> None:
    readings = Readings((300,))
    with pytest.raises(WaitTimeout, match=r"after 2 s waiting for 40% of the GPU's memory .*free: 300 of 1,000 MiB"):
        wait_for_room(0.4, read=readings.read, pause=readings.pause, deadline_s=2.0)
    assert readings.pauses == 4


@pytest.mark.parametrize(
    ("printed", "code", "expected"),
    [
        ("80120, 81559\n", 0, [(80120, 81559)]),
        ("1, 2\n3, 4\n", 0, [(1, 2), (3, 4)]),
        ("No such device\n", 6, []),
        ("[N/A], [N/A]\n", 0, []),  # a GPU that shares the main memory
    ],
)
def test_the_driver_is_asked_for_visible_gpus(
    monkeypatch: pytest.MonkeyPatch, printed: str, code: int, expected: list[tuple[int, int]]
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        asked.append(command)
        return SimpleNamespace(stdout=printed, returncode=code)

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5f")
    monkeypatch.setattr(gpu_memory.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(gpu_memory.subprocess, "run", run)
    assert memory_here() == expected
    assert asked[0][-1] == "--id=2,GPU-5f"


def test_a_driver_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], *, timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(gpu_memory.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(gpu_memory.subprocess, "run", run)
    assert memory_here() == []


def test_without_the_drivers_tool_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_memory.shutil, "which", lambda name: None)
    assert memory_here() == []
