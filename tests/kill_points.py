"""Kills code at the n-th change of the file system, without a process and without timing.

A change is a call that creates, writes, renames, removes or synchronizes a file or folder. A killed write leaves half
of its data. After the kill, every further change fails as well, so clean-up code does nothing, as after `kill -9`.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHANGES = ("rename", "replace", "unlink", "remove", "rmdir", "mkdir", "fsync", "ftruncate", "pwrite")
"""Functions of `os` that change the file system, or wait for it."""


class Killed(BaseException):
    """Stands for the end of the process."""


class KillPoint:
    """Counts changes, and kills at one of them.

    Args:
        number: Number of the change that does not happen, from 0.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.num_changes = 0

    @property
    def is_dead(self) -> bool:
        return self.num_changes > self.number

    def pass_by(self) -> None:
        """Count a change."""
        self.num_changes += 1
        if self.is_dead:
            raise Killed


class _File:
    """A file whose writes are changes."""

    def __init__(self, file: Any, point: KillPoint) -> None:
        self._file = file
        self._point = point

    def write(self, data: Any) -> int:
        try:
            self._point.pass_by()
        except Killed:
            if self._point.num_changes == self._point.number + 1:  # the fatal change, and none after it
                self._file.write(data[: len(data) // 2])
                self._file.flush()
            raise
        return int(self._file.write(data))

    def writelines(self, parts: Any) -> None:
        for part in parts:
            self.write(part)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def killed_at(number: int) -> Iterator[KillPoint]:
    """Kill the block at its n-th change, from 0; a block with fewer changes ends as usual."""
    point = KillPoint(number)
    real_open = io.open

    def open_counted(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if not set(mode) & set("wax+"):
            return real_open(file, mode, *arguments, **options)
        point.pass_by()
        return _File(real_open(file, mode, *arguments, **options), point)

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            point.pass_by()
            return function(*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGES:
            patch.setattr(os, name, counted(getattr(os, name)))
        patch.setattr(io, "open", open_counted)
        patch.setattr(builtins, "open", open_counted)
        with contextlib.suppress(Killed):
            yield point


def at_every_change(act: Callable[[Path], object], before: Callable[[Path], object], top: Path) -> Iterator[Path]:
    """Yield a folder for each change of `act`: prepared by `before`, and left as `act` was killed at this change.

    Args:
        act: The code to kill.
        before: Prepares the folder.
        top: Parent of the folders.
    """
    for number in range(10_000):
        folder = top / str(number)
        folder.mkdir()
        before(folder)
        with killed_at(number) as point:
            act(folder)
        yield folder
        if not point.is_dead:
            return
    raise AssertionError("the code does not end")
