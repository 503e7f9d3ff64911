"""Copies the changed files of a run folder to storage, in an order that never makes half a copy count.

    1. Copy config.yaml, metrics.jsonl, rollouts.jsonl and all other files outside checkpoints.
    2. Copy each complete checkpoint, the newest first, and its `complete.json` last.
    3. Remove checkpoints from storage that are no longer in the run folder.

If the machine dies at any point, the copy can still be resumed.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from rft.errors import StorageError
from rft.run_folder.copies.copied_files import (
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
        place: Place of the copy.
        sent: Files in the copy, by relative path, with their local state.
    """

    def __init__(self, folder: Path, place: Place, sent: Mapping[str, State] | None = None) -> None:
        self.place = place
        self._folder = folder
        self._sent = dict(sent or {})

    def copy(self, last_step: int, given_up: threading.Event) -> list[str]:
        """Copy all files that changed since the last copy.

        Args:
            last_step: The last step in metrics.jsonl; checkpoints of later steps wait.
            given_up: Stops the copy when set.

        Returns:
            Relative paths of the copied files, in order.

        Raises:
            StorageError: A file could not be copied. The next copy starts with it.
        """
        files = self._files()
        whole = [step for step in whole_checkpoints(files) if step <= last_step]
        stored = self.place.files(CHECKPOINTS)
        copied = self._send([name for name in files if checkpoint_of(name) is None], files, given_up)
        for step in whole:
            copied += self._send_checkpoint(step, files, stored, given_up)
        if given_up.is_set() or not whole:
            return copied
        if mark_of(whole[0]) not in self._sent:
            raise StorageError(
                f"{self.place}: checkpoint-{whole[0]} was removed here before it was copied; raise "
                "loop.keep_checkpoints or loop.checkpoint_every_steps"
            )
        self._remove_old(stored)
        return copied

    def _files(self) -> dict[str, State]:
        states: dict[str, State] = {}
        for top, _, names in os.walk(self._folder):
            for file in (Path(top, name) for name in names):
                name = file.relative_to(self._folder).as_posix()
                if travels(name):
                    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                        states[name] = state_of(file)
        return dict(sorted(states.items()))

    def _send(self, names: Sequence[str], files: Mapping[str, State], given_up: threading.Event) -> list[str]:
        """Send the changed files that still exist."""
        copied = []
        for name in names:
            changed = self._sent.get(name) != files[name]
            if changed and not given_up.is_set() and self.place.put(self._folder / name, name):
                self._sent[name] = files[name]
                copied.append(name)
        return copied

    def _send_checkpoint(
        self, step: int, files: Mapping[str, State], stored: Sequence[str], given_up: threading.Event
    ) -> list[str]:
        mark = mark_of(step)
        parts = [name for name in files if checkpoint_of(name) == step and name != mark]
        if mark in stored and any(self._sent.get(name) != files[name] for name in parts):
            self.place.remove(mark)  # the stored checkpoint is older
            self._sent.pop(mark, None)
        copied = self._send(parts, files, given_up)
        if all(self._sent.get(name) == files[name] for name in parts):
            copied += self._send([mark], files, given_up)
        return copied

    def _remove_old(self, stored: Sequence[str]) -> None:
        """Remove checkpoints from storage that no longer exist locally."""
        here = {path.name for path in (self._folder / CHECKPOINTS).glob("checkpoint-*")}
        steps = {step for name in stored if (step := checkpoint_of(name)) is not None}
        for step in sorted(steps):
            if f"checkpoint-{step}" not in here:
                if (mark := mark_of(step)) in stored:
                    self.place.remove(mark)
                self.place.remove_folder(folder_of(step))
                self._sent = {name: state for name, state in self._sent.items() if checkpoint_of(name) != step}
