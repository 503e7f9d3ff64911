"""Checks the copy of a run before a start, and fetches it to resume the run."""

from __future__ import annotations

from pathlib import Path

from rft.errors import OutputError
from rft.run_folder.copies.copied_files import State, checkpoint_of, state_of, travels, whole_checkpoints
from rft.run_folder.recorder import CONFIG, METRICS, prepare_output
from rft.storage import ANSWER_S, Place
from rft.waiting import within

MADE_ANEW = ("adapter/", "model/", "plots/", "summary.json")
"""Files that a run writes at its end; a resumed run does not need them."""


def check_copy(place: Place, last_step: int | None) -> None:
    """Refuse a place whose copy would be overwritten: another run, or a later state of this run.

    Args:
        place: Place of the copy.
        last_step: The step from which the run continues; None for a new run.

    Raises:
        OutputError: The place contains another run, or a later state of this run.
        StorageError: The place cannot be read.
    """
    names = within(place.files, what=f"the files of {place}", deadline_s=ANSWER_S)
    if last_step is None and CONFIG in names:
        problem = f"{place} already holds a run; continue it with resume={place}, or choose another storage"
        raise OutputError("storage", [problem])
    if last_step is not None and (newest := max(whole_checkpoints(names), default=0)) > last_step:
        problem = (
            f"{place} is at step {newest}, and this folder at step {last_step}: the run continued elsewhere. "
            f"resume={place} continues from there; storage=null makes no copies"
        )
        raise OutputError("storage", [problem])


def holds_checkpoint(place: Place) -> bool:
    """Whether a copy has a complete checkpoint.

    Raises:
        StorageError: The copy cannot be read.
    """
    return bool(whole_checkpoints(within(place.files, what=f"the files of {place}", deadline_s=ANSWER_S)))


def fetch_run(place: Place, folder: Path, *, deadline_s: float) -> dict[str, State]:
    """Fetch the files to resume a run: its records and its last complete checkpoint; `config.yaml` comes last.

    Args:
        place: Place of the copy.
        folder: The run folder, which must not contain a run yet.
        deadline_s: Seconds for all files.

    Returns:
        The files by relative path, with their local state.

    Raises:
        OutputError: The copy has no run or no complete checkpoint, or the folder cannot be used.
        StorageError: The copy cannot be read.
        WaitTimeout: The deadline passed.
    """
    names = within(place.files, what=f"the files of {place}", deadline_s=ANSWER_S)
    if CONFIG not in names:
        raise OutputError("resume", [f"resume={place}: the storage contains no run (no {CONFIG})"])
    if not (whole := whole_checkpoints(names)):
        problem = f"resume={place}: the run has no complete checkpoint; start a new run"
        raise OutputError("resume", [problem])
    needed = [
        name
        for name in names
        if travels(name) and not name.startswith(MADE_ANEW) and checkpoint_of(name) in (None, whole[0])
    ]
    if outside := [name for name in needed if not (folder / name).resolve().is_relative_to(folder.resolve())]:
        raise OutputError("resume", [f"resume={place}: {outside[0]} would be outside {folder}"])
    if not (folder / CONFIG).exists():
        (folder / METRICS).unlink(missing_ok=True)  # of an interrupted fetch
    prepare_output(folder)

    def get() -> None:
        for name in sorted(needed, key=lambda name: name == CONFIG):
            place.get(name, folder / name)

    within(get, what=f"the run from {place}", deadline_s=deadline_s)
    return {name: state_of(folder / name) for name in needed}
