"""Checkpoint folders: whole or absent, sealed, verified, and no more of them than asked for."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rft.errors import WriteError
from rft.learning import checkpoints
from rft.learning.checkpoints import complete_checkpoints, damage, is_sealed, new_checkpoint, step_of
from tests.kill_points import at_every_change


def write(run: Path, step: int, *, keep: int = 2) -> None:
    """Write a checkpoint of two files, one of them in a folder."""
    with new_checkpoint(run, step=step, keep=keep) as aside:
        folder = aside / f"checkpoint-{step}"
        (folder / "published").mkdir(parents=True)
        (folder / "optimizer.pt").write_bytes(b"moments of step %d" % step)
        (folder / "published" / "publications.json").write_text("[]")


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_the_seal_lists_size_and_sha256_of_each_file(tmp_path: Path) -> None:
    write(tmp_path, 7)
    folder = tmp_path / "checkpoints" / "checkpoint-7"
    assert names(tmp_path) == ["checkpoint-7"]
    assert json.loads((folder / "complete.json").read_text()) == {
        "step": 7,
        "files": {
            # sha256sum of `moments of step 7` and of `[]`
            "optimizer.pt": {"bytes": 17, "sha256": SHA256["moments of step 7"]},
            "published/publications.json": {"bytes": 2, "sha256": SHA256["[]"]},
        },
    }
    assert (damage(folder), is_sealed(folder), step_of(folder)) == ([], True, 7)


SHA256 = {
    "[]": "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945",
    "moments of step 7": "a3dc1d88035da7beb03d7b1da80108f82fb6d43e4421b4c827b0a2a288ee0679",
}


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (8, 9, 10, 11):
        write(tmp_path, step)
    assert names(tmp_path) == ["checkpoint-10", "checkpoint-11"]


def test_a_clock_that_jumps_back_does_not_remove_the_newest(tmp_path: Path) -> None:
    write(tmp_path, 8)
    os.utime(tmp_path / "checkpoints" / "checkpoint-8", (4e9, 4e9))  # in the year 2096
    write(tmp_path, 9, keep=1)
    assert names(tmp_path) == ["checkpoint-9"]


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    write(tmp_path, 8)
    folder = tmp_path / "checkpoints" / "checkpoint-8"
    (folder / "optimizer.pt").write_bytes(b"altered")
    write(tmp_path, 8)
    assert damage(folder) == []


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[3] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda folder: flip(folder / "optimizer.pt"), "optimizer.pt has another content than when it was written"),
        (lambda folder: (folder / "optimizer.pt").write_bytes(b"mo"), "optimizer.pt has 2 bytes instead of 17"),
        (lambda folder: (folder / "optimizer.pt").unlink(), "optimizer.pt is missing"),
        (lambda folder: (folder / "evil.bin").touch(), "evil.bin does not belong to the checkpoint"),
        (lambda folder: (folder / "complete.json").write_text(""), "complete.json is torn or altered"),
        (lambda folder: (folder / "complete.json").write_text('{"step": 7, "fil'), "complete.json is torn or altered"),
        (lambda folder: (folder / "complete.json").write_bytes(b"\0" * 40), "complete.json is torn or altered"),
        (lambda folder: (folder / "complete.json").write_text('{"files": {}}'), "complete.json is torn or altered"),
        (
            lambda folder: (folder / "complete.json").write_text(
                '{"step": 7, "files": {"a": {"bytes": null, "sha256": ""}}}'
            ),
            "complete.json is torn or altered",
        ),
        (
            lambda folder: (folder / "complete.json").write_text('{"step": 7, "files": {"a": 3}}'),
            "complete.json is torn or altered",
        ),
        (
            lambda folder: (folder / "complete.json").write_text(
                '{"step": 7, "files": {"model.safetensors": {"bytes": null, "sha256": ""}}}'
            ),
            "complete.json is torn or altered",
        ),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, spoil: Callable[[Path], object], problem: str) -> None:
    write(tmp_path, 7)
    folder = tmp_path / "checkpoints" / "checkpoint-7"
    spoil(folder)
    assert damage(folder) == [problem]
    assert step_of(folder) == 7


def test_a_checkpoint_of_rft_0_1_has_no_checksums_and_counts_as_whole(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "checkpoint-20"
    folder.mkdir(parents=True)
    (folder / "optimizer.pt").write_text("x")
    (folder / "complete.json").write_text('{"step": 10}')  # two optimizer steps on each batch
    assert (damage(folder), is_sealed(folder), complete_checkpoints(tmp_path)) == ([], False, [(10, folder)])


def test_whenever_the_process_dies_a_whole_checkpoint_is_there(tmp_path: Path) -> None:
    found = []
    for run in at_every_change(lambda run: write(run, 9, keep=1), lambda run: write(run, 8, keep=1), tmp_path):
        complete = dict(complete_checkpoints(run))
        assert complete, f"{run}: no checkpoint is left"
        assert [problem for folder in complete.values() for problem in damage(folder)] == []
        found.append(max(complete))
        write(run, 9, keep=1)  # the next attempt cleans up
        assert names(run) == ["checkpoint-9"]
    assert sorted(found) == found, "once the new one counts, it stays"
    assert {8, 9} == set(found)


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_older_checkpoint_and_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 8)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full_disk)
        with pytest.raises(WriteError, match=r"checkpoints/.unfinished cannot be written: No space .* make room"):
            write(tmp_path, 9)
    assert names(tmp_path) == ["checkpoint-8"]


@pytest.mark.parametrize(("free_mb", "error"), [(0.0, WriteError), (5000.0, RuntimeError)])
def test_an_error_of_torch_on_a_full_disk_is_one_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_mb: float, error: type[Exception]
) -> None:
    monkeypatch.setattr(checkpoints, "free_mb", lambda _: free_mb)
    with (
        pytest.raises(error, match="PytorchStreamWriter failed writing file"),
        new_checkpoint(tmp_path, step=1, keep=1),
    ):
        raise RuntimeError("PytorchStreamWriter failed writing file data/0")
