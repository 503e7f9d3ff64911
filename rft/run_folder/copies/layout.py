"""What of a run folder travels, and which checkpoints of a copy count."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from rft.learning.spec import COMPLETE

CHECKPOINTS = "checkpoints"
UNFINISHED = (".unfinished", ".tmp", ".part")
"""How names of files and folders end that are about to get another name."""

State = tuple[int, int]
"""Size in bytes and time of change in nanoseconds of a file."""


def state_of(file: Path) -> State:
    """What changes whenever a file is written."""
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def travels(name: str) -> bool:
    """Whether a file, by its path in the run folder, belongs to the run: not one half-written, nor a hidden one."""
    return not any(part.startswith(".") or part.endswith(UNFINISHED) for part in PurePosixPath(name).parts)


def checkpoint_of(name: str) -> int | None:
    """The step of the checkpoint that a file, by its path in the run folder, is part of; None if it is of none."""
    parts = PurePosixPath(name).parts
    if len(parts) < 3 or parts[0] != CHECKPOINTS:
        return None
    kind, _, step = parts[1].rpartition("-")
    return int(step) if kind == "checkpoint" and step.isdecimal() else None


def folder_of(step: int) -> str:
    """The folder of a checkpoint in the run folder."""
    return f"{CHECKPOINTS}/checkpoint-{step}"


def mark_of(step: int) -> str:
    """The file that says that a checkpoint is whole."""
    return f"{folder_of(step)}/{COMPLETE}"


def whole_checkpoints(names: Iterable[str]) -> list[int]:
    """The steps of the whole checkpoints among files, the newest first."""
    there = set(names)
    steps = {step for name in there if (step := checkpoint_of(name)) is not None}
    return sorted((step for step in steps if mark_of(step) in there), reverse=True)
