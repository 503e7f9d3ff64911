"""Keeps the verdict of the last audit of graders; `rft train` reads it before a run.

    .rft/audits/<identity of the graders>.json     {"verdict": "failed", "graders": [...], "failed": [...], ...}

The identity of a grader consists of its entry, without the keys of the panel, and of its code; its name and its weight
are not part of it. A changed grader therefore has no audit. A verdict also names the users' own functions, so that rft
can tell a changed grader from a new one.
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
from rft.grading.loading.targets import BUILT_IN, find_target
from rft.redaction import revealed

PASSED, FAILED, INCONCLUSIVE = "passed", "failed", "inconclusive"
NEVER = "never audited"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict of an audit.

    Example:
        Verdict(verdict="failed", failed=("enumeration",), time="2026-11-20T12:00:00+00:00", report="runs/audit/...",
                graders=("9b2e51c0...",))
    """

    verdict: str
    """`passed`, `failed` or `inconclusive`."""
    failed: tuple[str, ...]
    """Names of the failed probes."""
    time: str
    """Time of the audit, ISO 8601."""
    report: str
    """The folder of the report."""
    graders: tuple[str, ...]
    """The graders' identities, sorted."""
    functions: tuple[str, ...] = ()
    """The functions among them that are not built-in graders, as `/path/to/file.py:function` or
    `package.module:function`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unaudited:
    """A user's own grader whose present state has no verdict, or an inconclusive one.

    Example:
        Unaudited(name="correct", function="my_graders.py:correct", last=None)
    """

    name: str
    """Its name in the configuration."""
    function: str
    """Its function, as the configuration names it."""
    last: Verdict | None
    """The last verdict on the function in any state; None if there is none."""


def identities(entries: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the identities of graders, sorted: one hash for each grader with a weight.

    Args:
        entries: The graders' entries, already checked.
    """
    return tuple(sorted(_identity(name, entry) for name, entry in entries.items() if entry.get("weight", 1.0) != 0))


def keep_verdict(folder: Path, verdict: Verdict) -> Path:
    """Write a verdict; it replaces the last verdict on the same graders.

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
        problem = (
            f"{path} cannot be written: {error.strerror or error}; choose another folder with grading.audit_folder"
        )
        raise OutputError("verdicts of audits", [problem]) from error
    return path


def last_verdict(folder: Path, entries: Mapping[str, Mapping[str, Any]]) -> Verdict | None:
    """Return the last verdict on these graders together, or the last failure of some of them; None if there is neither.

    An unreadable file is not a verdict.
    """
    verdicts = _verdicts(folder)
    if not verdicts:
        return None
    current = identities(entries)
    exact = [verdict for verdict in verdicts if verdict.graders == current]
    failures = [verdict for verdict in verdicts if verdict.verdict == FAILED and verdict.graders]
    parts = [failure for failure in failures if set(failure.graders) <= set(current)]
    return max(exact or parts, key=lambda verdict: verdict.time, default=None)


def own_functions(entries: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the users' own functions among graders with a weight, as `/path/to/file.py:function`, sorted."""
    weighted = [entry for entry in entries.values() if entry.get("weight", 1.0) != 0]
    return tuple(sorted({_absolute(use) for entry in weighted for use in _own_uses(entry)}))


def unaudited(folder: Path, entries: Mapping[str, Mapping[str, Any]]) -> list[Unaudited]:
    """Return the users' own graders with a weight whose present state neither passed nor failed an audit.

    Args:
        folder: The folder of verdicts.
        entries: The graders' entries, already checked.
    """
    verdicts = sorted(_verdicts(folder), key=lambda verdict: verdict.time)
    covered = {identity for verdict in verdicts if verdict.verdict != INCONCLUSIVE for identity in verdict.graders}
    missing = []
    for name, entry in entries.items():
        uses = _own_uses(entry)
        if entry.get("weight", 1.0) == 0 or not uses or _identity(name, entry) in covered:
            continue
        functions = {_absolute(use) for use in uses}
        last = next((verdict for verdict in reversed(verdicts) if functions & set(verdict.functions)), None)
        missing.append(Unaudited(name=name, function=uses[0], last=last))
    return missing


def verdict_problems(folder: Path | None, entries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the reason why these graders should not be used for training; empty if there is none."""
    verdict = last_verdict(folder, entries) if folder is not None else None
    if verdict is None or verdict.verdict != FAILED:
        return []
    probes = f"{len(verdict.failed)} probe{'s' if len(verdict.failed) != 1 else ''}"
    return [
        f"graders: the last audit ({verdict.time}) failed on {probes}: {', '.join(verdict.failed)}; its report is in "
        f"{verdict.report}. Correct the grader and run rft audit again, or continue with audit=warn (one warning at "
        "the start) or audit=off"
    ]


def audit_state(folder: Path | None, entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Return `passed`, `failed`, `inconclusive` or `never audited`, for the provenance."""
    verdict = last_verdict(folder, entries) if folder is not None else None
    return NEVER if verdict is None else verdict.verdict


def _identity(name: str, entry: Mapping[str, Any]) -> str:
    scoring = {key: value for key, value in revealed(entry).items() if key not in KEYS or key in ("range", "clip")}
    return _digest([load_grader(name, entry).sha256, scoring, _children(entry)])


def _children(entry: Mapping[str, Any]) -> list[str]:
    """Return the code of a composite's graders."""
    return [code for child in _parts(entry) for code in (find_target(child["use"]).sha256, *_children(child))]


def _parts(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the entries of a composite's graders."""
    of, gate = entry.get("of"), entry.get("gate")
    return [*(of.values() if isinstance(of, Mapping) else ()), *([gate] if isinstance(gate, Mapping) else ())]


def _own_uses(entry: Mapping[str, Any]) -> list[str]:
    """Return the users' own functions in an entry, as it names them."""
    use = entry.get("use")
    own = [use] if isinstance(use, str) and use not in BUILT_IN else []
    return [*own, *(function for child in _parts(entry) for function in _own_uses(child))]


def _absolute(use: str) -> str:
    path, _, name = use.rpartition(":")
    return f"{Path(path).expanduser().resolve()}:{name}" if path.endswith(".py") else use


def _digest(content: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _verdicts(folder: Path) -> list[Verdict]:
    return [verdict for file in folder.glob("*.json") if (verdict := _read(file)) is not None]


def _read(file: Path) -> Verdict | None:
    try:
        content = json.loads(file.read_text(encoding="ascii"))
        return Verdict(
            verdict=str(content["verdict"]),
            failed=tuple(map(str, content["failed"])),
            time=str(content["time"]),
            report=str(content["report"]),
            graders=tuple(map(str, content["graders"])),
            functions=tuple(map(str, content.get("functions", ()))),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None
