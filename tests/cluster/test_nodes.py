"""Counting GPUs."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from rft.cluster import nodes, num_gpus_here
from rft.errors import WaitTimeout


@pytest.mark.parametrize(("visible", "expected"), [("", 0), ("-1", 0), ("0", 1), ("2,3", 2)])
def test_only_visible_gpus_are_counted(monkeypatch: pytest.MonkeyPatch, visible: str, expected: int) -> None:
    monkeypatch.setattr(nodes.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert num_gpus_here() == expected


def test_gpus_are_counted_by_their_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nodes.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(nodes.os, "listdir", lambda folder: ["null", "nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"])
    assert num_gpus_here() == 2


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ("", 0),
        ("No devices found.\n", 0),
        ("GPU 0: NVIDIA RTX 4090 (UUID: GPU-1)\nGPU 1: NVIDIA RTX 4090 (UUID: GPU-2)\n", 2),
        ("GPU 0: NVIDIA H200 (UUID: GPU-1)\n  MIG 1g.18gb Device 0: (UUID: MIG-1)\n  MIG 1g.18gb Device 1: (U)\n", 1),
    ],
)
def test_gpus_without_devices_are_listed_by_the_driver(
    monkeypatch: pytest.MonkeyPatch, listed: str, expected: int
) -> None:
    monkeypatch.setattr(nodes.shutil, "which", lambda name: "/usr/lib/wsl/lib/nvidia-smi")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(nodes.os, "listdir", lambda folder: ["null", "dxg"])
    monkeypatch.setattr(nodes.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=listed))
    assert num_gpus_here() == expected


def test_a_driver_that_does_not_list_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], *, timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(nodes.shutil, "which", lambda name: "/usr/lib/wsl/lib/nvidia-smi")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(nodes.os, "listdir", lambda folder: ["null", "dxg"])
    monkeypatch.setattr(nodes.subprocess, "run", run)
    with pytest.raises(WaitTimeout, match="after 60 s waiting for nvidia-smi -L to list the GPUs"):
        num_gpus_here()


def test_without_the_driver_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes.shutil, "which", lambda name: None)
    assert num_gpus_here() == 0
