"""Two processes never write one run."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rft.errors import OutputError
from rft.run_folder.run_lock import RunLock


def test_a_second_holder_is_told_who_the_first_is(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with RunLock(folder):
        content = json.loads((folder / "run.lock").read_text())
        assert (content["pid"], content["host"]) == (os.getpid(), socket.gethostname())
        with pytest.raises(OutputError) as caught, RunLock(folder, key="resume"):
            pass
        assert caught.value.problems == (
            f"resume={folder}: process {os.getpid()} on {socket.gethostname()} uses the folder since "
            f"{content['started_at']}; wait for its end, or stop it: kill {os.getpid()}",
        )
        (folder / "config.yaml").touch()
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]
    with RunLock(folder):
        pass


def test_a_folder_that_was_made_for_a_refused_run_goes(tmp_path: Path) -> None:
    with RunLock(tmp_path / "run"):
        assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
    assert not (tmp_path / "run").exists()
    with RunLock(tmp_path):
        pass
    assert tmp_path.exists()


def test_a_killed_process_leaves_a_file_that_locks_nothing(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from rft.run_folder.run_lock import RunLock\n"
        "RunLock(Path(sys.argv[1])).__enter__(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert killed.returncode == -9
    assert json.loads((tmp_path / "run.lock").read_text())["pid"] != os.getpid()
    with RunLock(tmp_path):
        assert json.loads((tmp_path / "run.lock").read_text())["pid"] == os.getpid()


def test_the_lock_is_on_the_file_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first holder removes its file between the open and the lock of the second."""
    real = fcntl.flock
    removed = []

    def flock(descriptor: int, operation: int) -> None:
        if not removed:
            removed.append(True)
            (tmp_path / "run.lock").unlink()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with RunLock(tmp_path), pytest.raises(OutputError, match="uses the folder"), RunLock(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"pid": "x"}'])
def test_a_holder_that_has_not_named_itself_yet(tmp_path: Path, content: bytes) -> None:
    with RunLock(tmp_path):
        (tmp_path / "run.lock").write_bytes(content)
        with pytest.raises(OutputError, match="another process uses the folder; wait for its end"), RunLock(tmp_path):
            pass


def test_a_file_system_without_locks_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with RunLock(tmp_path) as lock:
        assert lock.warning == f"the file system of {tmp_path} has no locks; start no second process on this folder"
