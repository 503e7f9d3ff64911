"""Counting GPUs."""

from pathlib import Path

import pytest

from rft.cluster import nodes, num_gpus_here


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


def test_without_the_driver_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes.shutil, "which", lambda name: None)
    assert num_gpus_here() == 0
