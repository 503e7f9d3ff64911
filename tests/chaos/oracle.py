"""Compares a disturbed run with the undisturbed one, and with what its cell demands."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from rft.run_folder.recorder import read_metrics, read_rollouts
from tests.chaos.cells import Cell, Equality
from tests.chaos.harness import STEPS, Outcome

ADAPTER = "adapter/adapter_model.safetensors"
LEARNING_RATE = 1e-3
MAX_GAP = 2 * LEARNING_RATE * STEPS
"""Of a weight, where rounding differs. Adam turns the rounding error of a gradient near 0 into a step of up to the
learning rate, in either direction."""

Place = tuple[str, int, str, int]
"""Phase, step, task id and index of a completion."""


@dataclass(frozen=True, slots=True)
class Records:
    """What a run has recorded."""

    steps: list[int]
    """The steps of metrics.jsonl, in its order."""
    completions: Counter[Place]
    """How often each completion was recorded."""
    texts: dict[Place, str]
    rewards: dict[Place, float | None]
    fingerprints: dict[int, str]
    """The fingerprint of the policy after each step."""
    restarts: dict[str, float]
    """The counts of `recovery/...`, summed over steps."""
    adapter: bytes


def read(run: Path) -> Records:
    """Read the records of a finished run."""
    lines = list(read_metrics(run))
    rollouts: list[tuple[Place, dict[str, Any]]] = [
        ((line["phase"], line["step"], line["task_id"], line["index"]), line) for line in read_rollouts(run)
    ]
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update({name: value for name, value in line["metrics"].items() if name.startswith("recovery/")})
    return Records(
        steps=[line["step"] for line in lines],
        completions=Counter(place for place, _ in rollouts),
        texts={place: line["completion"] for place, line in rollouts},
        rewards={place: line["reward"] for place, line in rollouts},
        fingerprints={line["step"]: line["policy"]["fingerprint"] for line in lines},
        restarts=dict(counts),
        adapter=(run / ADAPTER).read_bytes(),
    )


def differences(run: Path, undisturbed: Path, equality: Equality = "bits") -> list[str]:
    """Return how the result of a run differs from that of the undisturbed run; empty if it is the same.

    Args:
        run: The run folder.
        undisturbed: The folder of the undisturbed run.
        equality: How far they must be equal.
    """
    found, expected = read(run), read(undisturbed)
    problems = []
    if found.steps != expected.steps:
        problems.append(f"metrics.jsonl has the steps {found.steps}, not {expected.steps}")
    if lost := expected.completions - found.completions:
        problems.append(f"{lost.total()} completions are lost, such as {next(iter(lost))}")
    if doubled := found.completions - expected.completions:
        problems.append(f"{doubled.total()} completions are doubled or foreign, such as {next(iter(doubled))}")
    if equality == "tasks":
        return problems
    compared = [("completions", found.texts, expected.texts), ("rewards", found.rewards, expected.rewards)]
    if equality == "bits":
        compared.append(("policies", found.fingerprints, expected.fingerprints))
    for name, ours, theirs in compared:
        if places := sorted(place for place in ours.keys() & theirs.keys() if ours[place] != theirs[place]):
            first = places[0]
            problems.append(f"{len(places)} {name} differ, such as {first}: {ours[first]!r}, not {theirs[first]!r}")
    if equality == "bits" and found.adapter != expected.adapter:
        problems.append("the adapter's bytes differ")
    if equality == "rewards" and (gap := _largest_gap(found.adapter, expected.adapter)) > MAX_GAP:
        problems.append(f"a weight of the adapter differs by {gap:g}, more than {MAX_GAP:g}")
    return problems


def _largest_gap(found: bytes, expected: bytes) -> float:
    ours, theirs = safetensors.numpy.load(found), safetensors.numpy.load(expected)
    return max(float(np.abs(ours[name] - theirs[name]).max()) for name in theirs)


def judge(cell: Cell, outcome: Outcome, undisturbed: Path) -> list[str]:
    """Return what a run did otherwise than its cell demands; empty if nothing."""
    first, last = outcome.attempts[0], outcome.attempts[-1]
    if not outcome.struck:
        return [f"the fault did not strike; the command ended with exit code {first.code}"]
    problems = _ending(cell, first.code, first.output)
    for number, attempt in enumerate(outcome.attempts, 1):
        problems += [f"left over after command {number}: {what}" for what in attempt.leftovers]
    if last.code != 0:
        return [*problems, f"the run is not finished after {len(outcome.attempts)} commands: {_last_line(last.output)}"]
    trials = [""] if cell.trials == 1 else list(map(str, range(cell.trials)))
    for trial in trials:
        found = differences(outcome.run / trial, undisturbed / trial, cell.equality)
        problems += [f"trial {trial}: {problem}" if trial else problem for problem in found]
    counts = [read(outcome.run / trial).restarts for trial in trials]
    if cell.restarts and not any(count.get(f"recovery/{cell.restarts}_restarts") for count in counts):
        problems.append(f"no metric counts the restart of the {cell.restarts}")
    return problems


def _ending(cell: Cell, code: int, output: str) -> list[str]:
    problems = []
    if code not in cell.exit_codes:
        expected = " or ".join(map(str, cell.exit_codes))
        problems.append(f"exit code {code}, not {expected}: {_last_line(output)}")
    if not re.search(cell.message, output, re.DOTALL):
        problems.append(f"the output does not say {cell.message!r}: {_last_line(output)}")
    return problems


def _last_line(output: str) -> str:
    lines: Sequence[str] = [line for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
