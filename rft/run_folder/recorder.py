"""Writes the files of a run, and reads them again.

    metrics.jsonl    one line per step             rollouts.jsonl   one line per rollout, enough to grade it again
    summary.json     the result, for scripts        config.yaml      the resolved configuration, without secrets
    events.jsonl     one line per event
    feasibility.json whether the run is worth starting, if it was measured
    losses.jsonl     one line per measurement of the loss on validation tasks
    rollouts.index   where each line of the rollouts is

Files contain JSON according to RFC 8259, in ASCII; numbers that are not finite become null. Readers skip a line that a
crash left incomplete. A whole file appears under its name only when it is complete. `rollout_files` holds long
rollouts.jsonl in compressed segments, and `rollout_index` says where each line is.
"""

from __future__ import annotations

import json
import math
import numbers
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from rft.errors import OutputError, WriteError
from rft.events import Phase
from rft.redaction import redacted
from rft.reliability.durable import append, free_mb, replace_file, sync_file, writing
from rft.run_folder.json_lines import cut_back, read_lines
from rft.run_folder.recorded_tokens import RECORDED, has_tokens, tokens_to_json
from rft.run_folder.rollout_files import ROLLOUTS, RolloutFiles, cut_back_rollouts, read_rollout_lines
from rft.run_folder.rollout_index import INDEX, IndexWriter, cut_back_index
from rft.turns import turn_to_json
from rft.types import Grade, GradedGroup, Rollout, StepReport, Task

MIN_FREE_MB = 200
"""Minimum free disk space to start a run, in millions of bytes."""
ONLY_OWNER = 0o700
"""Rights of a run folder: completions and configuration may hold what other users must not read."""

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
LOSSES = "losses.jsonl"
EVENTS = "events.jsonl"
MANIFEST = "manifest.json"
SUMMARY = "summary.json"
FEASIBILITY = "feasibility.json"
TOKENS = "tokens"
"""Folder of the recorded batches (`rft.run_folder.token_shards`)."""
_AFTER = ("after", "after without passages")
"""Phases of the measurement after the run."""


class Recorder:
    """Writes metrics and rollouts into the run folder, which `prepare_output` creates.

    Every method raises `WriteError` when the disk is full or cannot be written.

    Args:
        folder: The run folder.
        damage: Sentences about lines that a crash damaged, and that a resume removed.
        completions_with_tokens: Most completions of a step or measurement whose lines contain their tokens.
    """

    def __init__(self, folder: Path, damage: Sequence[str] = (), *, completions_with_tokens: int = 0) -> None:
        self.folder = folder
        self.damage = damage
        self._completions_with_tokens = completions_with_tokens
        self._rollouts = RolloutFiles(folder)
        self._index = IndexWriter(folder)

    @classmethod
    def resume(cls, folder: Path, *, last_step: int | None, completions_with_tokens: int = 0) -> Recorder:
        """Continue a run from a checkpoint. Later lines are dropped, because the run will produce them again.

        These are the lines of later steps, of the measurement after the run, and an incomplete line.

        Args:
            folder: The run folder.
            last_step: The step of the checkpoint; its lines are kept. None drops all lines: the run starts again.
            completions_with_tokens: As for a new run.
        """
        damage: list[str] = []

        def keep(line: Mapping[str, Any]) -> bool:
            step = line.get("step")
            is_after = line.get("phase") in _AFTER
            return last_step is not None and isinstance(step, int) and step <= last_step and not is_after

        for name in (METRICS, LOSSES):
            if (folder / name).exists():
                cut_back(folder / name, keep, damage.append)
        of_rollouts: list[str] = []
        cut_back_rollouts(folder, keep, of_rollouts.append)
        cut_back_index(folder, last_step=last_step, dropped_phases=_AFTER, is_damaged=bool(of_rollouts))
        damage += of_rollouts
        if (events := folder / EVENTS).exists():  # a history: only damaged lines go
            cut_back(events, lambda _: True, damage.append)
        return cls(folder, damage, completions_with_tokens=completions_with_tokens)

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
        append(self.folder / METRICS, _dump(line))

    def losses(self, by_task: Mapping[str, float], *, step: int) -> None:
        """Append one line to losses.jsonl: the losses after a step, by task id."""
        append(self.folder / LOSSES, _dump({"step": step, "losses": by_task}))

    def rollouts(
        self,
        groups: Sequence[GradedGroup],
        *,
        step: int,
        phase: Phase,
        start_logprobs: Sequence[Sequence[float] | None] = (),
    ) -> None:
        """Append one line per rollout to rollouts.jsonl, and its record to the index.

        Args:
            groups: The groups.
            step: The step.
            phase: What they were sampled for.
            start_logprobs: As in `StepTrained`.
        """
        lines: list[tuple[bytes, dict[str, Any]]] = []
        for group in groups:
            for number, (rollout, grade) in enumerate(zip(group.rollouts, group.grades, strict=True)):
                line = {"step": step, "phase": phase, **_rollout_line(group.task, rollout, grade)}
                if len(lines) < self._completions_with_tokens and has_tokens(rollout):
                    of_teacher = group.teacher_logprobs[number] if group.teacher_logprobs else None
                    of_start = start_logprobs[len(lines)] if len(lines) < len(start_logprobs) else None
                    line[RECORDED] = tokens_to_json(rollout, teacher_logprobs=of_teacher, start_logprobs=of_start)
                lines.append((_dump(line), line))
        place = self._rollouts.append(b"".join(raw for raw, _ in lines))
        self._index.append(place, lines)

    def event(self, kind: str, values: Mapping[str, Any]) -> None:
        """Append one line to events.jsonl.

        Args:
            kind: Kind of the event, such as `step_finished`.
            values: Content of the event.
        """
        append(self.folder / EVENTS, _dump({"event": kind, "time": _now(), **values}))

    def sync(self) -> None:
        """Wait until all lines are on the disk, where they survive a loss of power."""
        for path in (self.folder / name for name in (ROLLOUTS, INDEX, METRICS, LOSSES)):
            if path.exists():
                with writing(path):
                    sync_file(path)

    def config(self, values: Mapping[str, Any]) -> None:
        """Write config.yaml without secrets, replacing an existing one.

        Args:
            values: The resolved configuration, in plain containers.
        """
        self.document(CONFIG, yaml.safe_dump(redacted(values), sort_keys=False))

    def document(self, name: str, text: str) -> None:
        """Write a whole file, such as manifest.json, replacing an existing one."""
        replace_file(self.folder / name, [text.encode("ascii")])

    def add_to_manifest(self, facts: Mapping[str, Any]) -> None:
        """Add entries to manifest.json, replacing those of the same name."""
        manifest = read_manifest(self.folder) | dict(facts)
        self.document(MANIFEST, json.dumps(manifest, indent=2) + "\n")

    def json(self, name: str, obj: Mapping[str, Any]) -> None:
        """Write a whole JSON file, replacing an existing one."""
        write_json(self.folder / name, obj)

    def summary(self, obj: Mapping[str, Any]) -> Path:
        """Write summary.json, replacing an existing one."""
        write_json(self.folder / SUMMARY, obj)
        return self.folder / SUMMARY

    def close(self) -> None:
        """Finish the compression of rollouts."""
        self._rollouts.close()


def write_json(path: Path, obj: Mapping[str, Any]) -> None:
    """Write a whole JSON file, replacing an existing one.

    Raises:
        WriteError: The disk is full or cannot be written.
    """
    replace_file(path, [(json.dumps(plain(obj), indent=2, allow_nan=False) + "\n").encode("ascii")])


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a run's manifest.json."""
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return manifest


def read_feasibility(folder: Path) -> dict[str, Any] | None:
    """Return a run's feasibility.json; None without one."""
    file = folder / FEASIBILITY
    report: dict[str, Any] | None = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    return report


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics.jsonl, in order; empty without the file."""
    path = folder / METRICS
    return list(read_lines(path)) if path.exists() else []


def read_losses(folder: Path) -> dict[int, dict[str, float]]:
    """Return the finite losses of validation tasks by step and task id; empty without losses.jsonl."""
    path = folder / LOSSES
    return {
        line["step"]: {task_id: loss for task_id, loss in line["losses"].items() if loss is not None}
        for line in (read_lines(path) if path.exists() else ())
    }


def read_rollouts(folder: Path, phase: Phase | None = None) -> Iterator[dict[str, Any]]:
    """Yield the lines of a run's rollouts, in order, also from compressed segments; only those of `phase`, if given."""
    yield from (line for line in read_rollout_lines(folder) if phase is None or line["phase"] == phase)


def refuse_output(folder: Path) -> None:
    """Refuse a folder that cannot hold a new run, as far as possible without writing.

    Raises:
        OutputError: The folder already contains a run, is a file, cannot be reached or written, or its disk is nearly
            full.
    """
    try:
        os.lstat(folder / CONFIG)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        problem = f"{folder} cannot be used: {getattr(error, 'strerror', None) or error}; choose another output_dir"
        raise OutputError("output folder", [problem]) from error
    if (folder / CONFIG).exists() or (folder / METRICS).exists():
        problem = f"{folder} already holds a run; continue it with resume={folder}, or choose another output_dir"
        raise OutputError("output folder", [problem])
    ancestor = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not ancestor.is_dir():
        raise OutputError("output folder", [f"{ancestor} is a file, not a folder; choose another output_dir"])
    if not os.access(ancestor, os.W_OK | os.X_OK):
        problem = f"{folder} cannot be written: you may not write to {ancestor}; choose another output_dir"
        raise OutputError("output folder", [problem])
    if (free := free_mb(ancestor)) < MIN_FREE_MB:
        problem = (
            f"{folder}: only {free:.0f} MB free, a run needs {MIN_FREE_MB} MB at least; make room on its disk, or "
            "choose another output_dir"
        )
        raise OutputError("output folder", [problem])


def prepare_output(folder: Path) -> None:
    """Create and check the folder of a new run. A refused folder stays unchanged.

    Raises:
        OutputError: The folder already contains a run, is a file, is not writable, or its disk is nearly full.
    """
    refuse_output(folder)
    try:
        make_private(folder)
        with writing(folder), tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"can this folder be written?")
    except WriteError as error:
        raise OutputError("output folder", [f"{error}, or choose another output_dir"]) from error


def make_private(folder: Path) -> None:
    """Create a folder that only its owner can read, and its parents. An existing folder keeps its rights.

    Raises:
        WriteError: The disk is full or cannot be written.
    """
    with writing(folder):
        folder.mkdir(mode=ONLY_OWNER, parents=True, exist_ok=True)


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
        **({"turns": list(map(turn_to_json, rollout.turns))} if rollout.turns else {}),
        "policy": asdict(rollout.policy),
        "scores": {name: asdict(score) for name, score in grade.scores.items()},
        "reward": grade.reward,
    }


def plain(value: Any) -> Any:
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
            return {str(key): plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [plain(inner) for inner in value]
        case _:
            return str(value)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _dump(value: Mapping[str, Any]) -> bytes:
    """Return one line of JSON with its newline."""
    return (json.dumps(plain(value), allow_nan=False) + "\n").encode("ascii")
