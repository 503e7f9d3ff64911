"""Runs commands of rft like a user, and reads what they leave in the run folder."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.machine_load import OtherLoad
from rft.events import Phase
from rft.metrics.intervals import Estimate
from rft.run_folder.recorded_scores import recorded_by_task
from rft.run_folder.recorder import read_metrics, read_rollouts


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A command that ended without an error."""

    wall_s: float
    """Seconds from its start to its end."""
    other_cores: float
    """Mean number of cores that other processes kept busy."""


def run_rft(*words: str) -> Finished:
    """Run a command of rft to its end.

    Raises:
        SystemExit: The command failed; contains the end of its output.
    """
    command = [sys.executable, "-m", "rft.cli", *words]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    load = OtherLoad(process.pid)
    output, _ = process.communicate()
    wall_s = time.monotonic() - started
    other_cores = load.stop(wall_s)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}\n{output[-5000:]}")
    return Finished(wall_s=wall_s, other_cores=other_cores)


def train(folder: Path, *words: str) -> dict[str, Any]:
    """Train, unless the folder contains the finished run already; return its summary.

    A benchmark that is interrupted and started again with the same folder therefore goes on from the last checkpoint of
    the run it was in.

    Args:
        folder: The run folder.
        words: Arguments of `rft train`.

    Raises:
        SystemExit: The command failed; contains the end of its output.
    """
    if not ((folder / "summary.json").is_file() and read_summary(folder)["status"] == "finished"):
        run_rft("train", "--or-resume", "logging=none", *words, f"output_dir={folder}")
    return read_summary(folder)


def measured(run: Path, when: str) -> Estimate:
    """Return a held-out measurement of a run: `before`, `after`, or their `difference`."""
    return Estimate.from_json(read_summary(run)["eval"][when])


def read_summary(run: Path) -> dict[str, Any]:
    """Return the summary of a run."""
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return summary


def metric_by_step(run: Path, name: str) -> dict[int, float]:
    """Return the values of one metric of a run by step; steps without it are absent."""
    return {line["step"]: line["metrics"][name] for line in read_metrics(run) if name in line["metrics"]}


def by_task(run: Path, phase: Phase) -> dict[str, float]:
    """Return the mean reward of each task in a phase of a run."""
    return recorded_by_task(read_rollouts(run, phase), "reward")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """How often a policy is right, and how often reinforcement learning has something to learn from."""

    num_completions: int
    """Completions that were sampled."""
    pass_rate: float
    """Share of right completions."""
    informative_share: float
    """Share of groups with different rewards; all other groups have no advantages."""


def signal(run: Path, phase: Phase) -> Signal:
    """Return the signal of the groups in a phase of a run."""
    groups: Mapping[Any, list[float]] = defaultdict(list)
    for line in read_rollouts(run, phase):
        groups[line["step"], line["task_id"]].append(line["reward"])
    rewards = [reward for group in groups.values() for reward in group]
    return Signal(
        num_completions=len(rewards),
        pass_rate=sum(rewards) / len(rewards),
        informative_share=sum(len(set(group)) > 1 for group in groups.values()) / len(groups),
    )


def steps_of(run: Path) -> str:
    """Return the best step of a run with `evaluation.patience`, and its last step, as in `30 of 60`."""
    summary = read_summary(run)
    return f"{summary['best']['step']} of {summary['steps']}"
