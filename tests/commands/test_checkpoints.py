"""`rft checkpoints`: what it prints, and when it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from rft.commands.checkpoints import checkpoints
from rft.errors import OutputError
from rft.learning.checkpoints import new_checkpoint


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").touch()
    for step in (3, 6):
        with new_checkpoint(tmp_path, step=step, keep=2) as aside:
            (aside / "written").mkdir()
            (aside / "written" / "optimizer.pt").write_bytes(b"x" * 250_000)
    return tmp_path


def test_whole_checkpoints(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checkpoints([str(run)]) == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert (first.split()[:2], first.split()[-3:]) == (["step", "6"], ["0.3", "MB", "whole"])
    assert second.split()[:2] == ["step", "3"]
    assert last == f"2 usable checkpoints; rft train resume={run} continues after step 6"


def test_a_damaged_one(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "checkpoints" / "checkpoint-6" / "optimizer.pt").write_bytes(b"y" * 250_000)
    assert checkpoints([str(run)]) == 1
    first, _, last = capsys.readouterr().out.splitlines()
    assert first.endswith("damaged: optimizer.pt has another content than when it was written")
    assert last == f"1 usable checkpoint; rft train resume={run} continues after step 3"


def test_none(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(OutputError, match=r"the folder contains no run \(no config.yaml\)"):
        checkpoints([str(empty)])
    (empty / "config.yaml").touch()
    assert checkpoints([str(empty)]) == 1
    assert capsys.readouterr().out == f"{empty}: the run has no usable checkpoint\n"
