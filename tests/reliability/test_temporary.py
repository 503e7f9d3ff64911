"""Temporary folders, and the ones that killed processes leave."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from rft.reliability import temporary
from rft.reliability.temporary import temporary_folder

HOLD = """
import sys
from rft.reliability.temporary import temporary_folder
with temporary_folder("trial") as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(temporary, "_remove_abandoned", temporary._remove_abandoned.__wrapped__)


def test_the_folder_is_removed_after_the_block(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), temporary_folder("trial") as folder:
        (folder / "file").write_text("text")
        assert folder.parent == tmp_path
        assert folder.name.startswith("rft-tmp-trial-")
        assert folder.stat().st_mode & 0o777 == 0o700
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_its_folder_to_the_next_one(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    of_other = Path(process.stdout.readline().strip())
    foreign = {tmp_path / "rft-tmp-triangle-1", tmp_path / "rft-trial-1"}
    for one in foreign:
        one.mkdir()
    with temporary_folder("trial") as folder:
        assert set(tmp_path.iterdir()) == {of_other, *foreign, folder}  # in use
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert of_other.exists()
    with temporary_folder("trial") as folder:
        assert set(tmp_path.iterdir()) == {*foreign, folder}


def test_a_folder_that_was_removed_before_its_lock_is_made_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make, made = tempfile.mkdtemp, []

    def make_and_lose_the_first(prefix: str, dir: Path) -> str:
        folder = make(prefix=prefix, dir=dir)
        made.append(Path(folder))
        if len(made) == 1:
            Path(folder).rmdir()
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", make_and_lose_the_first)
    with temporary_folder("trial") as folder:
        assert folder == made[1]
        assert list(tmp_path.iterdir()) == [folder]


def test_the_folder_may_be_elsewhere(tmp_path: Path) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (abandoned := elsewhere / "rft-tmp-trial-1").mkdir()
    with temporary_folder("trial", elsewhere) as folder:
        assert list(elsewhere.iterdir()) == [folder] != [abandoned]
    assert list(elsewhere.iterdir()) == []
