"""The files of a run folder to copy, and the complete checkpoints of a copy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from rft.learning.spec import COMPLETE
from rft.run_folder.recorder import TOKENS

CHECKPOINTS = "checkpoints"
UNFINISHED = (".unfinished", ".tmp", ".part")
"""Suffixes of files and folders that are still being written."""

State = tuple[int, int]
"""Size in bytes and modification time in nanoseconds of a file."""


def state_of(file: Path) -> State:
    """Return a file's state, which changes with every write."""
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


def travels(name: str) -> bool:
    """Whether a file (relative path) belongs to the copy: neither unfinished nor hidden, and no recorded batch."""
    parts = PurePosixPath(name).parts
    return parts[0] != TOKENS and not any(part.startswith(".") or part.endswith(UNFINISHED) for part in parts)


def checkpoint_of(name: str) -> int | None:
    """Return the step of a file's checkpoint (relative path); None outside checkpoints."""
    parts = PurePosixPath(name).parts
    if len(parts) < 3 or parts[0] != CHECKPOINTS:
        return None
    kind, _, step = parts[1].rpartition("-")
    return int(step) if kind == "checkpoint" and step.isdecimal() else None


def folder_of(step: int) -> str:
    """Return the folder of a checkpoint, relative to the run folder."""
    return f"{CHECKPOINTS}/checkpoint-{step}"


def mark_of(step: int) -> str:
    """Return the file that marks a checkpoint as complete."""
    return f"{folder_of(step)}/{COMPLETE}"


def whole_checkpoints(names: Iterable[str]) -> list[int]:
    """Return the steps of complete checkpoints among files, the newest first."""
    unique = set(names)
    steps = {step for name in unique if (step := checkpoint_of(name)) is not None}
    return sorted((step for step in steps if mark_of(step) in unique), reverse=True)
