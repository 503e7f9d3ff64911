"""Keeps the faults and the output of graders in the run folder, up to a maximum size.

grader_faults.jsonl   one line per completion on which a grader failed      grader_output.txt   the graders' output
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rft.redaction import hide, hide_in_message
from rft.types import Rollout, Score

log = logging.getLogger(__name__)

FAULTS = "grader_faults.jsonl"
OUTPUT = "grader_output.txt"
MAX_FAULTS_BYTES = 10 << 20
MAX_OUTPUT_BYTES = 1 << 20
MAX_SHOWN_BYTES = 1 << 16
"""Without a folder, the output of graders goes to stderr, up to this size."""
MAX_COMPLETION_CHARS = 20_000
"""Number of characters that are kept of a longer completion, with its length."""


class GraderLog:
    """Keeps the faults and the output of a run's graders. `close` logs how much did not fit.

    Args:
        folder: The run folder; None drops the faults and writes the output to stderr.
        secrets: Texts that are hidden in all files.
    """

    def __init__(self, folder: Path | None, secrets: Sequence[str] = ()) -> None:
        self._folder = folder
        self._secrets = secrets
        self._faults = _BoundedFile(folder / FAULTS if folder else None, MAX_FAULTS_BYTES)
        self._output = _BoundedFile(folder / OUTPUT if folder else None, MAX_OUTPUT_BYTES)

    def fault(self, grader: str, rollout: Rollout, score: Score, traceback: str) -> None:
        """Keep a completion on which a grader failed.

        Args:
            grader: The grader's name.
            rollout: The rollout.
            score: The score.
            traceback: The traceback; empty if the grader raised nothing, for example at a deadline.
        """
        if self._folder is None:
            return
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "grader": grader,
            "task_id": rollout.task_id,
            "index": rollout.index,
            "policy_version": rollout.policy.version,
            "status": score.status,
            "reason": self._without_secrets(score.reason or ""),
            "traceback": self._without_secrets(traceback),
            "completion": hide(rollout.text[:MAX_COMPLETION_CHARS], self._secrets),
            "completion_chars": len(rollout.text),
        }
        self._faults.add(json.dumps(line).encode() + b"\n")

    def printed(self, lines: bytes) -> None:
        """Keep whole lines of a grader's output."""
        if self._output.is_full:
            self._output.drop(lines)
        else:
            self._output.add(hide(lines.decode(errors="replace"), self._secrets).encode(), may_cut=True)

    def close(self) -> None:
        """Log the amount that was kept and the amount that did not fit."""
        faults, output = self._faults, self._output
        if faults.num_kept or faults.num_dropped:
            left_out = f"; {faults.num_dropped} more {faults.loss}" if faults.num_dropped else ""
            log.warning("faults of graders, with tracebacks: %d in %s%s", faults.num_kept, faults.path, left_out)
        if output.path and (output.kept_bytes or output.dropped_bytes):
            left_out = f"; {output.dropped_bytes:,} more bytes {output.loss}" if output.dropped_bytes else ""
            log.warning("graders printed %s bytes: %s%s", f"{output.kept_bytes:,}", output.path, left_out)
        elif output.dropped_bytes:
            log.warning("graders printed %s more bytes than shown", f"{output.dropped_bytes:,}")

    def _without_secrets(self, text: str) -> str:
        return hide_in_message(hide(text, self._secrets))


class _BoundedFile:
    """A file with a maximum size; stderr if it has no path.

    Args:
        path: The file. If it exists, its content counts.
        max_bytes: The maximum size.
    """

    def __init__(self, path: Path | None, max_bytes: int) -> None:
        self.path = path
        self.error = ""
        """The reason why the file could not be written; empty if it could."""
        self.num_kept = self.num_dropped = self.kept_bytes = self.dropped_bytes = 0
        self._room = max_bytes if path else MAX_SHOWN_BYTES
        if path and path.exists():
            self._room = max(max_bytes - path.stat().st_size, 0)

    @property
    def loss(self) -> str:
        """The reason why texts were dropped, for messages."""
        return f"could not be written ({self.error})" if self.error else "did not fit"

    @property
    def is_full(self) -> bool:
        """Whether the file accepts no more text."""
        return self._room <= 0

    def add(self, text: bytes, *, may_cut: bool = False) -> None:
        """Add a text, cut to the remaining size if it may be cut; after the first text that does not fit, drop all."""
        fits = len(text) <= self._room
        kept = text if fits else text[: self._room] if may_cut else b""
        if not fits:
            self.drop(text[len(kept) :])
        if not kept:
            return
        if not self._write(kept):
            self.drop(kept)
            return
        self._room = max(self._room - len(kept), 0)
        self.num_kept += 1
        self.kept_bytes += len(kept)

    def _write(self, text: bytes) -> bool:
        if self.path is None:
            sys.stderr.write(text.decode(errors="replace"))
            return True
        try:
            with self.path.open("ab") as file:
                file.write(text)
        except OSError as error:  # a full disk, or a grader that deleted the folder; the run itself reports it
            self.error = error.strerror or str(error)
            return False
        return True

    def drop(self, text: bytes) -> None:
        """Count a text that does not fit."""
        self._room = 0
        self.num_dropped += 1
        self.dropped_bytes += len(text)
