"""The outcome of a trial, and its file in the run folder."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rft.metrics.intervals import Estimate
from rft.reliability.durable import writing
from rft.run_folder.recorder import SUMMARY, write_json

RECORD = "trial.json"
_ESCAPED = re.compile(r"\\([\\()\[\]{}:=, \t])")
"""Characters that Hydra escapes with a backslash in unquoted values."""

TrialStatus = Literal["finished", "pruned", "interrupted", "failed", "not started"]
Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of a trial.

    Example:
        Outcome(number=3, overrides=("seed=3",), folder=Path("sweep_1/3"), status="finished", score=Estimate(...))
    """

    number: int
    """Number of the trial, from 0."""
    overrides: tuple[str, ...] = ()
    """Overrides of the trial, without secrets."""
    folder: Path
    """Run folder of the trial."""
    status: TrialStatus
    """Status at the end."""
    score: Estimate | None = None
    """The held-out measurement after the run, or None."""
    wall_s: float = 0.0
    """Duration in seconds, including the start of samplers."""
    error: str | None = None
    """Reason of a failure, or None."""

    def settings(self, searched: Sequence[str]) -> dict[str, str]:
        """Return the values of these keys."""
        return _settings(self.overrides, searched)

    def to_json(self) -> dict[str, Any]:
        """Return the entry for trial.json and sweep.json."""
        return {
            "number": self.number,
            "overrides": list(self.overrides),
            "status": self.status,
            "score": None if self.score is None else self.score.mean,
            "ci95": None if self.score is None or self.score.ci95 is None else list(self.score.ci95),
            "tasks": None if self.score is None else self.score.n,
            "wall_s": self.wall_s,
            "run": str(self.folder),
            "error": self.error,
        }

    @classmethod
    def from_json(cls, obj: dict[str, Any]) -> Outcome:
        """Read the result of `to_json`."""
        score = None
        if obj["score"] is not None:
            score = Estimate.from_json({"mean": obj["score"], "ci95": obj["ci95"], "n": obj["tasks"]})
        return cls(
            number=obj["number"],
            overrides=tuple(obj["overrides"]),
            folder=Path(obj["run"]),
            status=obj["status"],
            score=score,
            wall_s=obj["wall_s"],
            error=obj["error"],
        )


def outcome_of(
    folder: Path, *, number: int, overrides: Sequence[str], wall_s: float, error: str | None = None
) -> Outcome:
    """Read the outcome of a trial from its run folder, and write it there.

    Args:
        folder: The run folder.
        number: Number of the trial.
        overrides: Overrides of the trial, without secrets.
        wall_s: Duration in seconds.
        error: Reason of a failure, or None.
    """
    file = folder / SUMMARY
    summary: dict[str, Any] = {"status": "not started", "eval": {}}
    if file.is_file():
        summary = json.loads(file.read_text(encoding="ascii"))
    after = summary["eval"].get("after")
    outcome = Outcome(
        number=number,
        overrides=tuple(overrides),
        folder=folder,
        status=summary["status"] if error is None else "failed",
        score=None if after is None or error is not None else Estimate.from_json(after),
        wall_s=wall_s,
        error=error,
    )
    return record(outcome)


def record(outcome: Outcome) -> Outcome:
    """Write an outcome into the trial's folder."""
    with writing(outcome.folder):
        outcome.folder.mkdir(parents=True, exist_ok=True)
    write_json(outcome.folder / RECORD, outcome.to_json())
    return outcome


def distinct_overrides(overrides: Sequence[str], searched: Sequence[str]) -> str:
    """Return the overrides that distinguish a trial, such as `seed=3 learner.learning_rate=0.001`."""
    return " ".join(f"{key}={value}" for key, value in _settings(overrides, searched).items()) or "as configured"


def _settings(overrides: Sequence[str], searched: Sequence[str]) -> dict[str, str]:
    pairs = (word.lstrip("+").partition("=") for word in overrides)
    return {key: _ESCAPED.sub(r"\1", value) for key, _, value in pairs if key in searched}


def read_outcomes(sweep_folder: Path) -> list[Outcome]:
    """Return the outcomes of the trials in a sweep folder, by number."""
    files = sweep_folder.rglob(RECORD)
    outcomes = [Outcome.from_json(json.loads(file.read_text(encoding="ascii"))) for file in files]
    return sorted(outcomes, key=lambda outcome: outcome.number)


def ranked(outcomes: Sequence[Outcome], direction: Direction = "maximize") -> list[Outcome]:
    """Return the outcomes, the best first: finished trials by held-out mean, then the others by number."""
    sign = -1.0 if direction == "maximize" else 1.0

    def key(outcome: Outcome) -> tuple[bool, float, int]:
        counts = outcome.status == "finished" and outcome.score is not None
        return not counts, sign * outcome.score.mean if counts and outcome.score else 0.0, outcome.number

    return sorted(outcomes, key=key)


def winner(outcomes: Sequence[Outcome], direction: Direction = "maximize") -> Outcome | None:
    """Return the best finished trial (the first of equals), or None without held-out scores."""
    best = next(iter(ranked(outcomes, direction)), None)
    return best if best is not None and best.status == "finished" and best.score is not None else None
