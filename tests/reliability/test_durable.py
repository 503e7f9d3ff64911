"""Files that are whole or absent, and errors that name file and remedy."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rft.errors import WriteError
from rft.reliability.durable import append, replace_file, sync_tree, writing
from tests.kill_points import at_every_change


def test_a_file_has_the_old_or_the_new_content_whenever_the_process_dies(tmp_path: Path) -> None:
    contents = {
        (folder / "a").read_bytes()
        for folder in at_every_change(
            lambda folder: replace_file(folder / "a", [b"new", b" content"]),
            lambda folder: (folder / "a").write_bytes(b"old"),
            tmp_path,
        )
    }
    assert contents == {b"old", b"new content"}


def test_an_append_on_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    file = tmp_path / "lines"
    file.write_bytes(b"one\n")
    real = io.open

    class Full:
        """A file with room for two more bytes."""

        def __init__(self, *arguments: object, **options: object) -> None:
            self._file = real(*arguments, **options)  # type: ignore[call-overload]
            self._room = 2

        def write(self, data: memoryview) -> int:
            if not self._room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written = self._file.write(data[: self._room])
            self._room -= written
            return int(written)

        def __getattr__(self, name: str) -> object:
            return getattr(self._file, name)

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

    with monkeypatch.context() as patch:
        patch.setattr(io, "open", Full)
        with pytest.raises(WriteError, match=r"lines cannot be written: No space left .* make room on this disk"):
            append(file, b"two\n")
    assert file.read_bytes() == b"one\n"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, r"\(\d+ MB free on its disk\); make room on this disk"),
        (errno.EDQUOT, r"\(\d+ MB free on its disk\); make room, or get a larger quota"),
        (errno.EACCES, "get the right to write there"),
        (errno.EROFS, "mount the disk for writing"),
        (errno.EMFILE, r"raise the limit of open files \(ulimit -n\)"),
        (errno.EFBIG, r"raise the limit of file sizes \(ulimit -f\)"),
        (errno.ENOENT, "its folder was deleted or moved"),
        (errno.EIO, "check the disk"),
    ],
)
def test_the_remedy_fits_the_error(tmp_path: Path, number: int, remedy: str) -> None:
    message = rf"{tmp_path}/a/b cannot be written: {os.strerror(number)}[ ;]+{remedy}"
    with pytest.raises(WriteError, match=message), writing(tmp_path / "a" / "b"):
        raise OSError(number, os.strerror(number))


def test_a_full_disk_has_its_own_exit_code() -> None:
    assert WriteError("full").exit_code == 74


def test_a_tree_is_synchronized_file_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a/one", "two"):
        (tmp_path / name).write_text("x")
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    sync_tree(tmp_path)
    assert sorted(synced) == sorted(path.stat().st_ino for path in (tmp_path, *tmp_path.rglob("*")))
