"""Checkpoint folders: written aside, sealed with checksums, renamed, and verified before they are used.

    checkpoints/.unfinished/checkpoint-20    a learner writes here
    checkpoints/checkpoint-20                `new_checkpoint` moves the folder here

`complete.json` holds the step of a checkpoint, and size and SHA-256 of every other file. If the process dies at any
instant, the older checkpoints are whole, and a folder without `complete.json` is no checkpoint. Checkpoints of rft 0.1
hold the step alone, so their files cannot be verified.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rft.errors import WriteError
from rft.learning.spec import COMPLETE
from rft.reliability.durable import UNFINISHED, free_mb, replace_file, sync_folder, sync_tree, writing

CHECKPOINTS = "checkpoints"
"""Folder of a run with its checkpoints."""
DAMAGED = "damaged-"
"""Prefix of the folder of a checkpoint that was set aside."""

FULL_MB = 1.0
"""Free space below which a failure to write a checkpoint means a full disk, in millions of bytes."""


def unfinished_folder(run_folder: Path) -> Path:
    """Return the folder in which a learner writes its next checkpoint."""
    return run_folder / CHECKPOINTS / UNFINISHED


@contextmanager
def new_checkpoint(run_folder: Path, *, step: int, keep: int) -> Iterator[Path]:
    """Yield an empty folder, into which the block writes one folder: the new checkpoint.

    At the end, the checkpoint is sealed and moved to its place, and older ones are removed. If that fails, the older
    checkpoints stay, and the new files go.

    Args:
        run_folder: The run folder.
        step: Completed steps of the learner.
        keep: Number of checkpoints to keep.

    Raises:
        WriteError: The disk is full or cannot be written.
    """
    aside = unfinished_folder(run_folder)
    try:
        with writing(aside):
            shutil.rmtree(aside, ignore_errors=True)
            aside.parent.mkdir(exist_ok=True)  # a run folder that was deleted is not created again
            aside.mkdir()
            yield aside
            (written,) = aside.iterdir()
            seal(written, step)
            move_into_place(written, run_folder / CHECKPOINTS / f"checkpoint-{step}")
            remove_old(run_folder, keep)
    except WriteError:
        raise
    except Exception as error:  # torch and safetensors have their own errors for a full disk
        if (free := free_mb(aside)) >= FULL_MB:
            raise
        problem = f"{aside} cannot be written: {error} ({free:.0f} MB free on its disk); make room on this disk"
        raise WriteError(problem) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def seal(folder: Path, step: int) -> None:
    """Write `complete.json`, after every other file is on the disk."""
    sync_tree(folder)
    files = {
        name: {"bytes": file.stat().st_size, "sha256": _sha256(file)} for name, file in sorted(_files(folder).items())
    }
    replace_file(folder / COMPLETE, [json.dumps({"step": step, "files": files}, indent=1).encode()])


def move_into_place(sealed: Path, folder: Path) -> None:
    """Rename a sealed folder; a damaged or incomplete checkpoint of that name goes."""
    if folder.exists():
        remove(folder)
    os.rename(sealed, folder)
    sync_folder(folder.parent)


def remove_old(run_folder: Path, keep: int) -> None:
    """Remove all checkpoints but the newest ones, and what a crash left of removed ones.

    Args:
        run_folder: The run folder.
        keep: Number of checkpoints to keep.
    """
    complete = sorted(complete_checkpoints(run_folder), reverse=True)
    kept = {folder for _, folder in complete[:keep]}
    for folder in (run_folder / CHECKPOINTS).glob("checkpoint-*"):
        if folder not in kept:
            remove(folder)


def remove(checkpoint: Path) -> None:
    """Remove a checkpoint. Its completion mark goes first, so a crash leaves no half checkpoint that counts."""
    (checkpoint / COMPLETE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)


def complete_checkpoints(run_folder: Path) -> list[tuple[int, Path]]:
    """Return step and folder of each checkpoint with a completion mark, whether its files are whole or not."""
    folders = (run_folder / CHECKPOINTS).glob("checkpoint-*")
    return [(step_of(folder), folder) for folder in folders if (folder / COMPLETE).is_file()]


def step_of(checkpoint: Path) -> int:
    """Return the step of a checkpoint; if its completion mark is damaged, the step in the folder's name."""
    mark = _mark(checkpoint)
    if mark is not None:
        return int(mark["step"])
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


def is_sealed(checkpoint: Path) -> bool:
    """Whether the checkpoint has checksums. Those of rft 0.1 have none."""
    mark = _mark(checkpoint)
    return mark is not None and "files" in mark


def damage(checkpoint: Path) -> list[str]:
    """Return one sentence for each file that is missing, altered or foreign; empty for a whole checkpoint.

    A checkpoint without checksums counts as whole.
    """
    mark = _mark(checkpoint)
    if mark is None:
        return [f"{COMPLETE} is torn or altered"]
    if "files" not in mark:
        return []
    found = _files(checkpoint)
    foreign = sorted(found.keys() - mark["files"].keys())
    problems = [
        problem for name, sealed in mark["files"].items() if (problem := _damage_of(name, found.get(name), sealed))
    ]
    return problems + [f"{name} does not belong to the checkpoint" for name in foreign]


def _damage_of(name: str, file: Path | None, sealed: dict[str, Any]) -> str:
    """Return what is wrong with a file; empty if nothing is."""
    if file is None:
        return f"{name} is missing"
    if (size := file.stat().st_size) != sealed["bytes"]:
        return f"{name} has {size:,} bytes instead of {sealed['bytes']:,}"
    return "" if _sha256(file) == sealed["sha256"] else f"{name} has another content than when it was written"


def _mark(checkpoint: Path) -> dict[str, Any] | None:
    """Return the content of `complete.json`; None if it is damaged."""
    try:
        mark = json.loads((checkpoint / COMPLETE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    is_mark = isinstance(mark, dict) and type(mark.get("step")) is int and isinstance(mark.get("files", {}), dict)
    return mark if is_mark and all(map(_is_seal, mark.get("files", {}).values())) else None


def _is_seal(seal: Any) -> bool:
    """Whether an entry of `complete.json` has the size and the SHA-256 of a file."""
    return (
        isinstance(seal, dict)
        and seal.keys() == {"bytes", "sha256"}
        and type(seal["bytes"]) is int
        and isinstance(seal["sha256"], str)
    )


def _files(checkpoint: Path) -> dict[str, Path]:
    """Return the files of a checkpoint by relative path, without the completion mark and hidden files."""
    files = {file.relative_to(checkpoint).as_posix(): file for file in checkpoint.rglob("*") if file.is_file()}
    return {name: file for name, file in files.items() if name != COMPLETE and not file.name.startswith(".")}


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
