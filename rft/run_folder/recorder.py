"""A run on disk: what is written while it goes on, and how it is read again.

    metrics.jsonl    one line a step               rollouts.jsonl   one line a rollout, enough to grade it again
    summary.json     what a script reads            config.yaml      the resolved configuration, without secrets
    events.jsonl     one line an event

Files are JSON as RFC 8259 has it, in ASCII: numbers that are not finite become null. A line is written whole or, where
the machine died in the middle of it, skipped by the readers. A whole file appears under its name complete or never.
"""

from __future__ import annotations

import json
import math
import numbers
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from rft.errors import OutputError
from rft.events import Phase
from rft.redaction import redacted
from rft.types import Grade, GradedGroup, Rollout, StepReport, Task

MIN_FREE_MB = 200
"""A run is not started on a disk with less free space than this, in millions of bytes."""

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
ROLLOUTS = "rollouts.jsonl"
EVENTS = "events.jsonl"
SUMMARY = "summary.json"


class Recorder:
    """Writes a run's numbers and rollouts into its folder, which `prepare_output` has made.

    Every method raises `OutputError` when the disk is full or cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def resume(cls, folder: Path, *, last_step: int) -> Recorder:
        """Go on with a run from a checkpoint: what was written after it is dropped, for it will be made again.

        Dropped are the lines of later steps, those of the measurement after the run, and a line cut short.

        Args:
            folder: The run.
            last_step: The step of the checkpoint; its lines are kept.
        """
        for path in (folder / METRICS, folder / ROLLOUTS):
            if path.exists():
                kept = (line for line in _read(path) if line["step"] <= last_step and line.get("phase") != "after")
                _replace(path, (_dump(line) for line in kept))
        if (events := folder / EVENTS).exists():  # a history: only a line cut short goes
            _replace(events, (_dump(line) for line in _read(events)))
        return cls(folder)

    def metrics(self, report: StepReport) -> None:
        """Append one line to metrics.jsonl."""
        line = {
            "step": report.step,
            "policy": asdict(report.policy),
            "metrics": report.metrics,
            "drops": report.drops,
            "seconds": report.seconds,
            "time": _now(),
        }
        _append(self.folder / METRICS, [_dump(line)])

    def rollouts(self, groups: Sequence[GradedGroup], *, step: int, phase: Phase) -> None:
        """Append one line per rollout to rollouts.jsonl."""
        lines = [
            _dump({"step": step, "phase": phase, **_rollout_line(group.task, rollout, grade)})
            for group in groups
            for rollout, grade in zip(group.rollouts, group.grades, strict=True)
        ]
        _append(self.folder / ROLLOUTS, lines)

    def event(self, kind: str, values: Mapping[str, Any]) -> None:
        """Append one line to events.jsonl.

        Args:
            kind: Of the event, as `step_finished`.
            values: Its content.
        """
        _append(self.folder / EVENTS, [_dump({"event": kind, "time": _now(), **values})])

    def config(self, values: Mapping[str, Any]) -> None:
        """Write config.yaml, replacing one that is there; what is secret in it is not written.

        Args:
            values: The resolved configuration, in plain containers.
        """
        self.document(CONFIG, yaml.safe_dump(redacted(values), sort_keys=False))

    def document(self, name: str, text: str) -> None:
        """Write a whole file, as manifest.json, replacing one that is there."""
        _replace(self.folder / name, [text])

    def summary(self, obj: Mapping[str, Any]) -> Path:
        """Write summary.json, replacing one that is there."""
        write_json(self.folder / SUMMARY, obj)
        return self.folder / SUMMARY


def write_json(path: Path, obj: Mapping[str, Any]) -> None:
    """Write a whole JSON file, replacing one that is there.

    Raises:
        OutputError: The disk is full or cannot be written.
    """
    _replace(path, [json.dumps(_plain(obj), indent=2, allow_nan=False) + "\n"])


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, in order; empty when there is no such file."""
    path = folder / METRICS
    return list(_read(path)) if path.exists() else []


def read_rollouts(folder: Path, phase: Phase | None = None) -> Iterator[dict[str, Any]]:
    """The lines of a run's rollouts.jsonl, in order, one at a time; those of one phase if given."""
    path = folder / ROLLOUTS
    if path.exists():
        yield from (line for line in _read(path) if phase is None or line["phase"] == phase)


def refuse_output(folder: Path) -> None:
    """Refuse a folder that cannot hold a new run, as far as can be told without writing.

    Raises:
        OutputError: It holds a run already, is a file, may not be written, or its disk is nearly full.
    """
    if (folder / CONFIG).exists() or (folder / METRICS).exists():
        problem = f"{folder} already holds a run; continue it with resume={folder}, or choose another output_dir"
        raise OutputError("output folder", [problem])
    ancestor = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not ancestor.is_dir():
        raise OutputError("output folder", [f"{ancestor} is a file, not a folder; choose another output_dir"])
    if not os.access(ancestor, os.W_OK | os.X_OK):
        problem = f"{folder} cannot be written: you may not write to {ancestor}; choose another output_dir"
        raise OutputError("output folder", [problem])
    free_mb = shutil.disk_usage(ancestor).free / 1e6
    if free_mb < MIN_FREE_MB:
        problem = (
            f"{folder}: only {free_mb:.0f} MB free, a run needs {MIN_FREE_MB} MB at least; make room on its disk, or "
            "choose another output_dir"
        )
        raise OutputError("output folder", [problem])


def prepare_output(folder: Path) -> None:
    """Make the folder of a new run, and make sure that it can hold one. A refused folder is left as it was.

    Raises:
        OutputError: It holds a run already, is a file, cannot be written, or its disk is nearly full.
    """
    refuse_output(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"can this folder be written?")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write `path` into an `OutputError` that says what to do."""
    try:
        yield
    except OSError as error:
        ancestor = next(parent for parent in path.absolute().parents if parent.exists())
        free_mb = shutil.disk_usage(ancestor).free / 1e6
        problem = (
            f"{path} cannot be written: {error.strerror or error} ({free_mb:.0f} MB free on its disk); make room, or "
            "get the right to write there, or choose another output_dir"
        )
        raise OutputError("output folder", [problem]) from error


def _rollout_line(task: Task, rollout: Rollout, grade: Grade) -> dict[str, Any]:
    """All that a grader is given, and what the graders said."""
    return {
        "task_id": task.id,
        "split": task.split,
        "messages": task.messages,
        "item": task.item,
        "index": rollout.index,
        "completion": rollout.text,
        "num_completion_tokens": len(rollout.completion_ids),
        "stop": rollout.stop,
        "policy": asdict(rollout.policy),
        "scores": {name: asdict(score) for name, score in grade.scores.items()},
        "reward": grade.reward,
    }


def _plain(value: Any) -> Any:
    """The value as JSON has it: null for numbers that are not finite, words for what JSON has no form for."""
    match value:
        case None | bool():
            return value
        case str():
            return str(value)
        case numbers.Integral():
            return int(value)
        case numbers.Real():
            return float(value) if math.isfinite(value) else None
        case Mapping():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case _:
            return str(value)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _dump(value: Mapping[str, Any]) -> str:
    """One line of JSON, its end included."""
    return json.dumps(_plain(value), allow_nan=False) + "\n"


def _read(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a JSON Lines file, but for one cut short at its end."""
    with path.open(encoding="ascii", errors="replace") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def _append(path: Path, lines: Sequence[str]) -> None:
    """Add lines to a file and hand them to the operating system."""
    with writing(path), path.open("a", encoding="ascii") as file:
        file.writelines(lines)


def _replace(path: Path, lines: Iterable[str]) -> None:
    """Write a file under another name, then give it its name: nobody ever sees it half-written."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    with writing(path):
        with unfinished.open("w", encoding="ascii") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
