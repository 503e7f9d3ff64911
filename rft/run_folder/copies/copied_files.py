"""The files of a run folder to copy, and the complete checkpoints of a copy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from rft.learning.checkpoints import DAMAGED
from rft.learning.spec import COMPLETE
from rft.run_folder.recorder import TOKENS

CHECKPOINTS = "checkpoints"
UNFINISHED = (".unfinished", ".tmp", ".part")
"""Suffixes of files and folders that are still being written."""

OF_THE_PROCESS = ("run.lock", "heartbeat.json")
"""Files about the process of a run instead of the run."""

State = tuple[int, int]
"""Size in bytes and modification time in nanoseconds of a file."""


def state_of(file: Path) -> State:
    """Return a file's state, which changes with every write."""
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


def travels(name: str) -> bool:
    """Whether a file (relative path) belongs to the copy of a run.

    These are whole and visible files, without those about the process of the run, and without recorded batches.
    """
    parts = PurePosixPath(name).parts
    is_whole = not any(part.startswith((".", DAMAGED)) or part.endswith(UNFINISHED) for part in parts)
    return is_whole and name not in OF_THE_PROCESS and parts[0] != TOKENS


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
