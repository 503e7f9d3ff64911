"""Temporary folders that do not outlive a killed process for long: the next process of rft removes them.

Standard library only.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def temporary_folder(kind: str, inside: Path | None = None) -> Iterator[Path]:
    """Yield a new folder, and remove it after the block.

    A process that is killed in the block leaves its folder behind. The first folder of the same kind that another
    process makes on this machine removes it.

    Args:
        kind: Part of the folder's name: `adapter` for `rft-tmp-adapter-...`.
        inside: Existing folder for the new one; None takes the system's temporary folder.
    """
    inside = inside or Path(tempfile.gettempdir())
    _remove_abandoned(kind, inside)
    folder, lock = _locked_folder(kind, inside)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _prefix(kind: str) -> str:
    """Return the first part of a folder's name, which nobody gives to a folder of their own."""
    return f"rft-tmp-{kind}-"


def _locked_folder(kind: str, inside: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_prefix(kind), dir=inside))
        with suppress(FileNotFoundError):  # another process took the folder, still unlocked, for an abandoned one
            lock = os.open(folder, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


@functools.cache
def _remove_abandoned(kind: str, inside: Path) -> None:
    """Remove the folders whose process has died: the operating system has released their locks."""
    for folder in inside.glob(f"{_prefix(kind)}*"):
        with suppress(OSError):  # locked, removed in the meantime, or another user's
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(lock)
