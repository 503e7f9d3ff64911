"""Trainings with `rft train`, each in processes of its own, whose results the run folders keep."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.arms import environment

SUMMARY = "summary.json"
METRICS = "metrics.jsonl"


class RunFailed(RuntimeError):
    """`rft train` ended with an error."""


def train(folder: Path, words: Sequence[str]) -> dict[str, Any]:
    """Train, unless the folder contains the finished run already; return its summary.

    A benchmark that is interrupted and started again with the same folder therefore repeats only the run it was in.

    Args:
        folder: The run folder; the log is beside it, with the suffix `.log`.
        words: Arguments of `rft train`.

    Raises:
        RunFailed: Contains the end of the log.
    """
    if not _is_finished(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        log = folder.with_name(f"{folder.name}.log")
        command = [sys.executable, "-m", "rft.cli", "train", "logging=none", *words, f"output_dir={folder}"]
        with log.open("w", encoding="utf-8") as output:
            code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env=environment()).returncode
        if code:
            end = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:])
            raise RunFailed(f"{' '.join(command)} ended with exit code {code}; the end of {log}:\n{end}")
    return summary_of(folder)


def summary_of(folder: Path) -> dict[str, Any]:
    """Return the summary of a run that has ended."""
    summary: dict[str, Any] = json.loads((folder / SUMMARY).read_text(encoding="ascii"))
    return summary


def metric_by_step(folder: Path, name: str) -> dict[int, float]:
    """Return the values of one metric of a run by step; steps without it are absent."""
    lines = map(json.loads, (folder / METRICS).read_text(encoding="utf-8").splitlines())
    return {line["step"]: line["metrics"][name] for line in lines if name in line["metrics"]}


def _is_finished(folder: Path) -> bool:
    return (folder / SUMMARY).is_file() and summary_of(folder)["status"] == "finished"
