"""Files that survive a crash or a full disk: a file appears under its name whole, or not at all.

Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rft.errors import WriteError
from rft.reliability.limits import MORE_FILES

UNFINISHED = ".unfinished"
"""Suffix of files and folders that are still being written."""

_NO_RIGHT = "get the right to write there"
_REMEDIES = {
    errno.ENOSPC: "make room on this disk",
    errno.EDQUOT: "make room, or get a larger quota",
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EROFS: "mount the disk for writing",
    errno.EMFILE: MORE_FILES,
    errno.ENFILE: MORE_FILES,
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.ENOENT: "its folder was deleted or moved: restore the folder, or run the command again to start anew",
}
"""Remedies by error number of the operating system."""
_OTHER_REMEDY = "check the disk and the rights of the folder"
_LACKS_SPACE = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the operating system into a `WriteError` that names the file and the remedy.

    Args:
        path: The file or folder that is written.
    """
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, _OTHER_REMEDY)
        free = f" ({free_mb(path):.0f} MB free on its disk)" if error.errno in _LACKS_SPACE else ""
        raise WriteError(f"{path} cannot be written: {error.strerror or error}{free}; {remedy}") from error


def free_mb(path: Path) -> float:
    """Return the free space on the disk of a file or folder, in millions of bytes. The path need not exist."""
    ancestor = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    return shutil.disk_usage(ancestor).free / 1e6


def replace_file(path: Path, parts: Iterable[bytes]) -> None:
    """Write a whole file under another name, then rename it, so that readers see the old or the new content.

    Args:
        path: The file; an existing one is replaced.
        parts: The content.

    Raises:
        WriteError: The file cannot be written. An existing file keeps its content.
    """
    unfinished = path.with_name(f"{path.name}{UNFINISHED}")
    with writing(path):
        with unfinished.open("wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        sync_folder(path.parent)


def append(path: Path, data: bytes) -> None:
    """Append to a file: all of the data, or nothing if the disk is full.

    Raises:
        WriteError: The data cannot be written. The file keeps its content.
    """
    with writing(path), path.open("ab", buffering=0) as file:
        end = file.tell()
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            with contextlib.suppress(OSError):  # readers skip an incomplete last line, so nothing depends on this
                file.truncate(end)
            raise


def sync_file(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, such as those of renamed files."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Wait until all files below a folder, and their names, are on the disk."""
    for top, _, names in os.walk(folder):
        for name in names:
            sync_file(Path(top, name))
        sync_folder(Path(top))
