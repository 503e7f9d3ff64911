"""The agent on a node: finds or receives the base model, and transfers files."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from rft.cluster.free_memory import device_here
from rft.errors import ClusterError, UsageError
from rft.memory import Device
from rft.models.base_model import fingerprint, locate

READ_BYTES = 32 * 1024 * 1024
"""Bytes of a file per request."""


class NodeKeeper:
    """A Ray actor without resources on each node of the run.

    Args:
        folder: Absolute folder on this node for all stored files; only this user may read it.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._folder.stat().st_uid != os.getuid():
            raise ClusterError(f"{folder} belongs to another user; set cluster.node_folder to your own folder")

    def exists(self, path: str) -> bool:
        """Whether an absolute path exists, to detect file systems shared with the driver."""
        return os.path.exists(path)

    def device(self, num_gpus: int) -> Device:
        """Return the free memory of this node, and of as many of its GPUs."""
        return device_here(num_gpus)

    def find_model(self, path: str, name: str | None, expected: str) -> bool:
        """Search this node for the base model: stored earlier, at the driver's path, embedded, or on the hub.

        `models/<fingerprint>` below the folder then refers to the model.

        Args:
            path: The model's folder on the driver.
            name: The model's name on the hub or among embedded models; None for a folder of the user.
            expected: The model's fingerprint.
        """
        kept = self._model(expected)
        if self._has_model(expected):
            return True
        for place in (path, name) if name else (path,):
            if place == path and not os.path.isdir(path):
                continue
            try:
                model = locate(place).resolve()
            except UsageError:
                continue
            if fingerprint(model) == expected:
                self._refer(kept, model)
                return self._has_model(expected)
        return False

    def check_model(self, received: str, expected: str) -> str | None:
        """Store a received model if its fingerprint is right; otherwise return the actual fingerprint."""
        arrived = self._inside(received)
        if (actual := fingerprint(arrived)) != expected:
            shutil.rmtree(arrived)
            return actual
        kept = self._model(expected)
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            arrived.rename(kept)
        except OSError:  # something is there
            if self._has_model(expected):  # another node on this machine was faster
                shutil.rmtree(arrived)
                return None
            self._clear(kept)
            arrived.rename(kept)
        return None

    def write(self, path: str, data: bytes, *, is_first: bool) -> None:
        """Append bytes to a file below the folder, or create it."""
        file = self._inside(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb" if is_first else "ab") as opened:
            opened.write(data)

    def files(self, path: str) -> dict[str, tuple[int, int]]:
        """Return size in bytes and modification time in nanoseconds of all files below a folder, by relative path."""
        top = self._inside(path)
        states = {}
        for file in top.rglob("*"):
            if file.is_file():
                state = file.stat()
                states[file.relative_to(top).as_posix()] = (state.st_size, state.st_mtime_ns)
        return states

    def read(self, path: str, offset: int) -> bytes:
        """Read at most `READ_BYTES` of a file below the folder, from an offset."""
        with self._inside(path).open("rb") as opened:
            opened.seek(offset)
            return opened.read(READ_BYTES)

    def remove(self, paths: Sequence[str]) -> None:
        """Remove folders below the folder."""
        for path in paths:
            shutil.rmtree(self._inside(path), ignore_errors=True)

    def _model(self, expected: str) -> Path:
        return self._folder / "models" / expected

    def _has_model(self, expected: str) -> bool:
        kept = self._model(expected)
        return kept.exists() and fingerprint(kept) == expected

    def _refer(self, kept: Path, model: Path) -> None:
        """Let a path refer to a model, in one step: other nodes on this machine may read what it refers to."""
        if kept.is_dir() and not kept.is_symlink():
            shutil.rmtree(kept)
        kept.parent.mkdir(parents=True, exist_ok=True)
        link = kept.with_name(f"{kept.name}-{uuid.uuid4().hex}")
        link.symlink_to(model)
        link.replace(kept)

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
