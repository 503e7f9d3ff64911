"""What is done on a node for the run: the base model found or received, and files taken in and handed out."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from rft.errors import ClusterError, UsageError
from rft.models.base_model import fingerprint, locate

READ_BYTES = 32 * 1024 * 1024
"""How much of a file travels at once."""


class NodeKeeper:
    """A Ray actor without resources of its own, on each node that takes part.

    Args:
        folder: Absolute, on this node; everything that is kept lies below it, and only this user may read it.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._folder.stat().st_uid != os.getuid():
            raise ClusterError(f"{folder} belongs to another user; give a folder of your own as cluster.node_folder")

    def exists(self, path: str) -> bool:
        """Whether an absolute path is there, to find out what is shared with the driver."""
        return os.path.exists(path)

    def find_model(self, path: str, name: str | None, wanted: str) -> bool:
        """Look for the base model on this node: kept from before, at the driver's path, embedded, or on the hub.

        What is found is reached at `models/<fingerprint>` below the folder.

        Args:
            path: The model's folder on the driver.
            name: Its name on the hub, or that of an embedded one; None for a folder of the user's own.
            wanted: Its fingerprint.
        """
        kept = self._model(wanted)
        if self._has_model(wanted):
            return True
        for place in (path, name) if name else (path,):
            if place == path and not os.path.isdir(path):
                continue
            try:
                found = locate(place).resolve()
            except UsageError:
                continue
            if fingerprint(found) == wanted:
                self._clear(kept)
                kept.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileExistsError):  # another node of this machine was faster
                    kept.symlink_to(found)
                return self._has_model(wanted)
        return False

    def check_model(self, received: str, wanted: str) -> str | None:
        """Take a received model into use if it is whole; the fingerprint it has if it is not."""
        arrived = self._inside(received)
        if (found := fingerprint(arrived)) != wanted:
            shutil.rmtree(arrived)
            return found
        if self._has_model(wanted):  # another node of this machine was faster
            shutil.rmtree(arrived)
            return None
        kept = self._model(wanted)
        self._clear(kept)
        kept.parent.mkdir(parents=True, exist_ok=True)
        arrived.rename(kept)
        return None

    def write(self, path: str, data: bytes, *, is_first: bool) -> None:
        """Add bytes to a file below the folder, or begin it."""
        file = self._inside(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb" if is_first else "ab") as opened:
            opened.write(data)

    def files(self, path: str) -> dict[str, tuple[int, int]]:
        """Size in bytes and time of change in nanoseconds of all files below a folder, by their path in it."""
        top = self._inside(path)
        found = {}
        for file in top.rglob("*"):
            if file.is_file():
                state = file.stat()
                found[file.relative_to(top).as_posix()] = (state.st_size, state.st_mtime_ns)
        return found

    def read(self, path: str, offset: int) -> bytes:
        """At most `READ_BYTES` of a file below the folder, from an offset."""
        with self._inside(path).open("rb") as opened:
            opened.seek(offset)
            return opened.read(READ_BYTES)

    def remove(self, paths: Sequence[str]) -> None:
        """Remove folders below the folder."""
        for path in paths:
            shutil.rmtree(self._inside(path), ignore_errors=True)

    def _model(self, wanted: str) -> Path:
        return self._folder / "models" / wanted

    def _has_model(self, wanted: str) -> bool:
        kept = self._model(wanted)
        return kept.exists() and fingerprint(kept) == wanted

    def _clear(self, kept: Path) -> None:
        if kept.is_symlink():
            kept.unlink()
        elif kept.exists():
            shutil.rmtree(kept)

    def _inside(self, path: str) -> Path:
        inside = Path(os.path.normpath(self._folder / path))
        if not inside.is_relative_to(self._folder) or inside == self._folder:
            raise ClusterError(f"{path} is not below {self._folder}")
        return inside
