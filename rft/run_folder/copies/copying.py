"""One copy of a run folder into storage: what has changed goes there, in an order in which nothing half-copied counts.

    1. config.yaml, metrics.jsonl, rollouts.jsonl and all else that is in no checkpoint
    2. each whole checkpoint, the newest first, and its `complete.json` after all its other files
    3. checkpoints that are no longer in the run folder are removed

A machine that dies anywhere in between leaves a copy to go on from.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from rft.errors import StorageError
from rft.run_folder.copies.layout import (
    CHECKPOINTS,
    State,
    checkpoint_of,
    folder_of,
    mark_of,
    state_of,
    travels,
    whole_checkpoints,
)
from rft.storage import Place


class Copier:
    """Copies a run folder.

    Args:
        folder: The run folder.
        place: Where the copy is.
        sent: Files that are there already, by their path in the folder, with their state here.
    """

    def __init__(self, folder: Path, place: Place, sent: Mapping[str, State] | None = None) -> None:
        self.place = place
        self._folder = folder
        self._sent = dict(sent or {})

    def copy(self, last_step: int, given_up: threading.Event) -> list[str]:
        """Copy what has changed since it was last copied.

        Args:
            last_step: The last step whose line is in metrics.jsonl; checkpoints of later ones have to wait.
            given_up: Once it is set, nothing more is copied.

        Returns:
            The files that were copied, by their path in the folder, in order.

        Raises:
            StorageError: A file could not be copied; the next copy begins with it.
        """
        files = self._files()
        whole = [step for step in whole_checkpoints(files) if step <= last_step]
        there = self.place.files(CHECKPOINTS)
        copied = self._send([name for name in files if checkpoint_of(name) is None], files, given_up)
        for step in whole:
            copied += self._send_checkpoint(step, files, there, given_up)
        if given_up.is_set() or not whole:
            return copied
        if mark_of(whole[0]) not in self._sent:
            raise StorageError(
                f"{self.place}: checkpoint-{whole[0]} was removed here before it was copied; raise "
                "loop.keep_checkpoints or loop.checkpoint_every_steps"
            )
        self._remove_old(there)
        return copied

    def _files(self) -> dict[str, State]:
        found: dict[str, State] = {}
        for top, _, names in os.walk(self._folder):
            for file in (Path(top, name) for name in names):
                name = file.relative_to(self._folder).as_posix()
                if travels(name):
                    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                        found[name] = state_of(file)
        return dict(sorted(found.items()))

    def _send(self, names: Sequence[str], files: Mapping[str, State], given_up: threading.Event) -> list[str]:
        """Send those of the files that have changed, and are still here."""
        copied = []
        for name in names:
            changed = self._sent.get(name) != files[name]
            if changed and not given_up.is_set() and self.place.put(self._folder / name, name):
                self._sent[name] = files[name]
                copied.append(name)
        return copied

    def _send_checkpoint(
        self, step: int, files: Mapping[str, State], there: Sequence[str], given_up: threading.Event
    ) -> list[str]:
        mark = mark_of(step)
        parts = [name for name in files if checkpoint_of(name) == step and name != mark]
        if mark in there and any(self._sent.get(name) != files[name] for name in parts):
            self.place.remove(mark)  # what is there is of an earlier life of the run
            self._sent.pop(mark, None)
        copied = self._send(parts, files, given_up)
        if all(self._sent.get(name) == files[name] for name in parts):
            copied += self._send([mark], files, given_up)
        return copied

    def _remove_old(self, there: Sequence[str]) -> None:
        """Remove the checkpoints that are gone here."""
        here = {path.name for path in (self._folder / CHECKPOINTS).glob("checkpoint-*")}
        steps = {step for name in there if (step := checkpoint_of(name)) is not None}
        for step in sorted(steps):
            if f"checkpoint-{step}" not in here:
                if (mark := mark_of(step)) in there:
                    self.place.remove(mark)
                self.place.remove_folder(folder_of(step))
                self._sent = {name: state for name, state in self._sent.items() if checkpoint_of(name) != step}
