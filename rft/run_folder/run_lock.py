"""Locks a run folder, so that two processes never write the same run."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from rft.errors import OutputError
from rft.reliability.durable import writing
from rft.run_folder.recorder import make_private

LOCK = "run.lock"
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Errors of file systems without locks."""


class RunLock:
    """Holds the lock of a run folder, or of a sweep's, during the block.

    The operating system holds the lock (`flock`) and releases it when the process ends, however it ends. `run.lock`
    names the holder: process id, host and start. A file that a killed process left behind therefore locks nothing.

    Args:
        folder: The folder, created if it does not exist.
        key: The configuration key that names the folder, for messages.

    Example:
        with RunLock(Path("runs/a")):
            ...
    """

    def __init__(self, folder: Path, *, key: str = "output_dir") -> None:
        self._folder = folder
        self._path = folder / LOCK
        self._key = key
        self._descriptor = -1
        self._is_new = False
        self.warning = ""
        """A sentence if the file system has no locks, so that nothing prevents a second process; else empty."""

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            OutputError: Another process holds the lock; the message names it.
            WriteError: The folder cannot be written.
        """
        self._is_new = not self._folder.exists()
        make_private(self._folder)
        with writing(self._path):
            while not self._take():
                pass
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "started_at": datetime.now(UTC).isoformat()}
            try:
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, (json.dumps(holder) + "\n").encode(), 0)
            except OSError:
                os.close(self._descriptor)
                raise
        return self

    def __exit__(self, *_: object) -> None:
        """Release the lock, and remove its file."""
        with contextlib.suppress(OSError):  # a file that stays, as on a read-only disk, locks nothing
            self._path.unlink()  # before the release, while it is this process's file
            if self._is_new and not any(self._folder.iterdir()):
                self._folder.rmdir()  # the run was refused
        os.close(self._descriptor)

    def _take(self) -> bool:
        """Try to take the lock; return False if its file was removed meanwhile."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                holder = os.pread(descriptor, 4096, 0)
                os.close(descriptor)
                if isinstance(error, BlockingIOError):
                    raise OutputError("run folder", [self._refusal(holder)]) from None
                raise
            self.warning = f"the file system of {self._folder} has no locks; start no second process on this folder"
        if not _is_at(descriptor, self._path):
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def _refusal(self, holder: bytes) -> str:
        given = f"{self._key}={self._folder}"
        try:
            content = json.loads(holder)
            pid, host, started = int(content["pid"]), str(content["host"]), str(content["started_at"])
        except (ValueError, KeyError, TypeError):  # the holder has not written it yet
            return f"{given}: another process uses the folder; wait for its end"
        held = f"process {pid} on {host} uses the folder since {started}"
        return f"{given}: {held}; wait for its end, or stop it: kill {pid}"


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the path still leads to the opened file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
