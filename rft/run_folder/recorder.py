"""Writes the files of a run, and reads them again.

    metrics.jsonl    one line per step             rollouts.jsonl   one line per rollout, enough to grade it again
    summary.json     the result, for scripts        config.yaml      the resolved configuration, without secrets
    events.jsonl     one line per event

Files contain JSON according to RFC 8259, in ASCII; numbers that are not finite become null. Readers skip a line that a
crash left incomplete. A whole file appears under its name only when it is complete.
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
"""Minimum free disk space to start a run, in millions of bytes."""

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
ROLLOUTS = "rollouts.jsonl"
EVENTS = "events.jsonl"
MANIFEST = "manifest.json"
SUMMARY = "summary.json"
TOKENS = "tokens"
"""Folder of the recorded batches (`rft.run_folder.token_shards`)."""


class Recorder:
    """Writes metrics and rollouts into the run folder, which `prepare_output` creates.

    Every method raises `OutputError` when the disk is full or cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def resume(cls, folder: Path, *, last_step: int) -> Recorder:
        """Continue a run from a checkpoint. Later lines are dropped, because the run will produce them again.

        These are the lines of later steps, of the measurement after the run, and an incomplete line.

        Args:
            folder: The run folder.
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
            kind: Kind of the event, such as `step_finished`.
            values: Content of the event.
        """
        _append(self.folder / EVENTS, [_dump({"event": kind, "time": _now(), **values})])

    def config(self, values: Mapping[str, Any]) -> None:
        """Write config.yaml without secrets, replacing an existing one.

        Args:
            values: The resolved configuration, in plain containers.
        """
        self.document(CONFIG, yaml.safe_dump(redacted(values), sort_keys=False))

    def document(self, name: str, text: str) -> None:
        """Write a whole file, such as manifest.json, replacing an existing one."""
        _replace(self.folder / name, [text])

    def add_to_manifest(self, facts: Mapping[str, Any]) -> None:
        """Add entries to manifest.json, replacing those of the same name."""
        manifest = read_manifest(self.folder) | dict(facts)
        self.document(MANIFEST, json.dumps(manifest, indent=2) + "\n")

    def summary(self, obj: Mapping[str, Any]) -> Path:
        """Write summary.json, replacing an existing one."""
        write_json(self.folder / SUMMARY, obj)
        return self.folder / SUMMARY


def write_json(path: Path, obj: Mapping[str, Any]) -> None:
    """Write a whole JSON file, replacing an existing one.

    Raises:
        OutputError: The disk is full or cannot be written.
    """
    _replace(path, [json.dumps(_plain(obj), indent=2, allow_nan=False) + "\n"])


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a run's manifest.json."""
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return manifest


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics.jsonl, in order; empty without the file."""
    path = folder / METRICS
    return list(_read(path)) if path.exists() else []


def read_rollouts(folder: Path, phase: Phase | None = None) -> Iterator[dict[str, Any]]:
    """Yield the lines of a run's rollouts.jsonl, in order; only those of `phase`, if given."""
    path = folder / ROLLOUTS
    if path.exists():
        yield from (line for line in _read(path) if phase is None or line["phase"] == phase)


def refuse_output(folder: Path) -> None:
    """Refuse a folder that cannot hold a new run, as far as possible without writing.

    Raises:
        OutputError: The folder already contains a run, is a file, is not writable, or its disk is nearly full.
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
    """Create and check the folder of a new run. A refused folder stays unchanged.

    Raises:
        OutputError: The folder already contains a run, is a file, is not writable, or its disk is nearly full.
    """
    refuse_output(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"can this folder be written?")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an operating system error for `path` into an `OutputError` with a remedy."""
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
    """Return the inputs of graders, and their scores."""
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
    """Convert a value to JSON: null for numbers that are not finite, text for unsupported types."""
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
    """Return one line of JSON with its newline."""
    return json.dumps(_plain(value), allow_nan=False) + "\n"


def _read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a JSON Lines file, without an incomplete last line."""
    with path.open(encoding="ascii", errors="replace") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def _append(path: Path, lines: Sequence[str]) -> None:
    """Append lines to a file and flush them to the operating system."""
    with writing(path), path.open("a", encoding="ascii") as file:
        file.writelines(lines)


def _replace(path: Path, lines: Iterable[str]) -> None:
    """Write a file under another name, then rename it, so that readers never see half a file."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    with writing(path):
        with unfinished.open("w", encoding="ascii") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
