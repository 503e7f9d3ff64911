"""A run's copy, asked before a run starts, and brought here for one that is to go on."""

from __future__ import annotations

from pathlib import Path

from rft.errors import OutputError
from rft.run_folder.copies.layout import State, checkpoint_of, state_of, travels, whole_checkpoints
from rft.run_folder.recorder import CONFIG, prepare_output
from rft.storage import ANSWER_S, Place
from rft.waiting import within

MADE_ANEW = ("adapter/", "model/", "plots/", "summary.json")
"""What a run writes at its end, and what goes on does not need."""


def check_copy(place: Place, last_step: int | None) -> None:
    """Refuse a place whose copy would be lost: that of another run, or of this run further on.

    Args:
        place: Where the copy is to be.
        last_step: The step that the run goes on from; None for a new one.

    Raises:
        OutputError: With what to do.
        StorageError: The place cannot be read.
    """
    names = within(place.files, what=f"the files of {place}", deadline_s=ANSWER_S)
    if last_step is None and CONFIG in names:
        problem = f"{place} already holds a run; continue it with resume={place}, or choose another storage"
        raise OutputError("storage", [problem])
    if last_step is not None and (newest := max(whole_checkpoints(names), default=0)) > last_step:
        problem = (
            f"{place} is at step {newest}, and this folder at step {last_step}: the run went on elsewhere. "
            f"resume={place} goes on from there; storage=null leaves it alone"
        )
        raise OutputError("storage", [problem])


def fetch_run(place: Place, folder: Path, *, deadline_s: float) -> dict[str, State]:
    """Bring here what a run needs to go on: its records and its last whole checkpoint; `config.yaml` comes last.

    Args:
        place: Its copy.
        folder: The run folder, which must not hold a run yet.
        deadline_s: For all of it, seconds.

    Returns:
        The files, by their path in the folder, with their state here.

    Raises:
        OutputError: There is no run, or no whole checkpoint, or the folder cannot be used.
        StorageError: The copy cannot be read.
        WaitTimeout: It took too long.
    """
    names = within(place.files, what=f"the files of {place}", deadline_s=ANSWER_S)
    if CONFIG not in names:
        raise OutputError("resume", [f"resume={place}: the storage contains no run (no {CONFIG})"])
    if not (whole := whole_checkpoints(names)):
        problem = f"resume={place}: the run has no whole checkpoint to go on from; start it anew"
        raise OutputError("resume", [problem])
    wanted = [
        name
        for name in names
        if travels(name) and not name.startswith(MADE_ANEW) and checkpoint_of(name) in (None, whole[0])
    ]
    if outside := [name for name in wanted if not (folder / name).resolve().is_relative_to(folder.resolve())]:
        raise OutputError("resume", [f"resume={place}: {outside[0]} would lie outside of {folder}"])
    prepare_output(folder)

    def get() -> None:
        for name in sorted(wanted, key=lambda name: name == CONFIG):
            place.get(name, folder / name)

    within(get, what=f"the run from {place}", deadline_s=deadline_s)
    return {name: state_of(folder / name) for name in wanted}
