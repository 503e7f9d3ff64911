"""Finds the checkpoint to resume a run from: the newest whole one. Lists and verifies all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rft.errors import OutputError
from rft.learning.checkpoints import CHECKPOINTS, DAMAGED, complete_checkpoints, damage, is_sealed, step_of
from rft.learning.spec import COMPLETE
from rft.run_folder.recorder import CONFIG, read_metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint of a run, verified.

    Example:
        Checkpoint(folder=Path("runs/a/checkpoints/checkpoint-20"), step=20, num_bytes=4_100_000, ...)
    """

    folder: Path
    """Folder of the checkpoint."""
    step: int
    """The step that the checkpoint continues after."""
    num_bytes: int
    """Size of all files."""
    saved_at: datetime
    """Time of the last write, UTC."""
    is_sealed: bool
    """Whether its files have checksums; those of rft 0.1 have none."""
    damage: tuple[str, ...]
    """What is wrong with its files, one sentence each; empty for a whole checkpoint."""


def list_checkpoints(run_folder: Path) -> list[Checkpoint]:
    """Return all checkpoints of a run, verified, the newest first; also those that were never completed.

    Raises:
        OutputError: The folder contains no run.
    """
    _require_run(run_folder, f"{run_folder}")
    folders = sorted((run_folder / CHECKPOINTS).glob("checkpoint-*"), key=step_of, reverse=True)
    return [_verified(folder) for folder in folders]


def last_checkpoint(run_folder: Path, warn: Callable[[str], None] | None = None) -> tuple[Path, int]:
    """Return the newest whole checkpoint of a run, and its step. Every file is verified.

    Args:
        run_folder: The run folder.
        warn: Receives a sentence for each newer checkpoint that cannot be used.

    Raises:
        OutputError: The folder contains no run, or the run has no whole checkpoint.
    """
    _require_run(run_folder, f"resume={run_folder}")
    complete = sorted(complete_checkpoints(run_folder), reverse=True)
    if not complete:
        raise OutputError("resume", [f"resume={run_folder}: the run has no complete checkpoint; start a new run"])
    refused: list[str] = []
    recorded = {line.get("step") for line in read_metrics(run_folder)}
    # A machine that lost its power can keep a checkpoint and lose the line of its step.
    needs_line = any(step in recorded for step, _ in complete)
    for step, folder in complete:
        problems = damage(folder)
        if needs_line and not problems and step not in recorded:
            problems = [f"metrics.jsonl has no line for step {step}"]
        if not problems:
            if refused and warn is not None:
                warn("; ".join([*refused, f"the run continues from {folder.name}"]))
            return folder, step
        refused.append(f"{folder} is damaged: {', '.join(problems)}")
    raise OutputError(
        "resume",
        [*refused, f"resume={run_folder}: no checkpoint is whole; resume from a copy of the run, or start a new run"],
    )


def can_be_resumed(run_folder: Path) -> bool:
    """Whether the folder has a complete checkpoint, whole or damaged."""
    return bool(complete_checkpoints(run_folder))


def set_aside_later_checkpoints(run_folder: Path, step: int) -> None:
    """Rename the checkpoints after a step to `damaged-checkpoint-<n>`, since the resumed run writes them again."""
    for folder in (run_folder / CHECKPOINTS).glob("checkpoint-*"):
        if step_of(folder) > step:
            folder.rename(_free_name(folder.with_name(f"{DAMAGED}{folder.name}")))


def described(checkpoint: Checkpoint) -> str:
    """Return the state of a checkpoint in words."""
    if not (checkpoint.folder / COMPLETE).exists():
        return "incomplete: the run was stopped while it wrote the checkpoint"
    if checkpoint.damage:
        return f"damaged: {', '.join(checkpoint.damage)}"
    return "whole" if checkpoint.is_sealed else "not verified: rft 0.1 wrote it, without checksums"


def _verified(folder: Path) -> Checkpoint:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return Checkpoint(
        folder=folder,
        step=step_of(folder),
        num_bytes=sum(file.stat().st_size for file in files),
        saved_at=datetime.fromtimestamp(max((file.stat().st_mtime for file in files), default=0.0), UTC),
        is_sealed=is_sealed(folder),
        damage=tuple(damage(folder)),
    )


def _free_name(folder: Path) -> Path:
    """Return the path, with a number if it exists."""
    number = 1
    free = folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def _require_run(run_folder: Path, given: str) -> None:
    if not (run_folder / CONFIG).exists():
        raise OutputError("run folder", [f"{given}: the folder contains no run (no config.yaml)"])
