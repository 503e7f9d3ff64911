"""What the last audit said of graders: kept in a folder, and asked before they train anything.

    .rft/audits/<identity of the graders>.json     {"verdict": "failed", "graders": [...], "failed": [...], ...}

Graders are known by their entries, without the keys that are for the panel alone, and by the code behind them; by
their names or weights they are not. So a grader that was changed was never audited.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rft.errors import OutputError
from rft.grading.loading.keys import KEYS
from rft.grading.loading.registry import load_grader
from rft.grading.loading.targets import find_target

PASSED, FAILED = "passed", "failed"
NEVER = "never audited"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an audit said.

    Example:
        Verdict(verdict="failed", failed=("enumeration",), time="2026-11-20T12:00:00+00:00", report="runs/audit/...",
                graders=("9b2e51c0...",))
    """

    verdict: str
    """`passed` or `failed`."""
    failed: tuple[str, ...]
    """The probes that failed."""
    time: str
    """When, ISO 8601."""
    report: str
    """The folder of the report."""
    graders: tuple[str, ...]
    """The graders' identities, sorted."""


def identities(entries: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """What graders are known by, sorted: a hash for each that has a weight.

    Args:
        entries: The graders' entries; nothing may be wrong with them.
    """
    return tuple(sorted(_identity(name, entry) for name, entry in entries.items() if entry.get("weight", 1.0) != 0))


def keep_verdict(folder: Path, verdict: Verdict) -> Path:
    """Write a verdict in place of the last one of the same graders.

    Raises:
        OutputError: The folder cannot be written.
    """
    path = folder / f"{_digest(list(verdict.graders))[:32]}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".unfinished", delete=False, encoding="ascii") as file:
            file.write(json.dumps(asdict(verdict), indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
    except OSError as error:
        problem = f"{path} cannot be written: {error.strerror or error}; name another folder with grading.audit_folder"
        raise OutputError("verdicts of audits", [problem]) from error
    return path


def last_verdict(folder: Path, entries: Mapping[str, Mapping[str, Any]]) -> Verdict | None:
    """The last verdict of these graders together; or else the last failure of some of them; None where there is none.

    What cannot be read is no verdict.
    """
    verdicts = [one for file in folder.glob("*.json") if (one := _read(file)) is not None]
    if not verdicts:
        return None
    own = identities(entries)
    exact = [one for one in verdicts if one.graders == own]
    parts = [one for one in verdicts if one.verdict == FAILED and one.graders and set(one.graders) <= set(own)]
    return max(exact or parts, key=lambda one: one.time, default=None)


def verdict_problems(folder: Path | None, entries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Why these graders should not train: the sentence to show, or nothing."""
    verdict = last_verdict(folder, entries) if folder is not None else None
    if verdict is None or verdict.verdict != FAILED:
        return []
    probes = f"{len(verdict.failed)} probe{'s' if len(verdict.failed) != 1 else ''}"
    return [
        f"graders: the last audit ({verdict.time}) failed on {probes}: {', '.join(verdict.failed)}; the report is in "
        f"{verdict.report}. Mend the grader and run rft audit again, or go on regardless with audit=warn (said once at "
        "the start) or audit=off"
    ]


def audit_state(folder: Path | None, entries: Mapping[str, Mapping[str, Any]]) -> str:
    """`passed`, `failed` or `never audited`, for the provenance."""
    verdict = last_verdict(folder, entries) if folder is not None else None
    return NEVER if verdict is None else verdict.verdict


def _identity(name: str, entry: Mapping[str, Any]) -> str:
    scoring = {key: value for key, value in entry.items() if key not in KEYS or key in ("range", "clip")}
    return _digest([load_grader(name, entry).sha256, scoring, _children(entry)])


def _children(entry: Mapping[str, Any]) -> list[str]:
    """The code of a composite's graders."""
    of, gate = entry.get("of"), entry.get("gate")
    children = [*(of.values() if isinstance(of, Mapping) else ()), *([gate] if isinstance(gate, Mapping) else ())]
    return [one for child in children for one in (find_target(child["use"]).sha256, *_children(child))]


def _digest(content: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read(file: Path) -> Verdict | None:
    try:
        content = json.loads(file.read_text(encoding="ascii"))
        return Verdict(
            verdict=str(content["verdict"]),
            failed=tuple(map(str, content["failed"])),
            time=str(content["time"]),
            report=str(content["report"]),
            graders=tuple(map(str, content["graders"])),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None
