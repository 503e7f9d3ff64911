"""Durations and deadlines use monotonic clocks, so a jump of the wall clock changes none of them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.parsed import parsed

ROOT = Path(__file__).parents[1]
WALL_CLOCKS = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}
MAY_READ = re.compile(r"\btime\.time|\b(now|utcnow|today)\b|\bfrom time\b")
"""What the text of a file holds that reads a wall clock; the others need not be parsed."""
RECORDS = "records when something happened"

READERS: dict[str, str] = {
    "rft/auditing/examine.py": RECORDS,
    "rft/grading/grader_log.py": RECORDS,
    "rft/health/heartbeat.py": RECORDS,
    "rft/health/status.py": "the age of a heartbeat of another machine, or of a process that has ended",
    "rft/pipeline/runner.py": "names a folder",
    "rft/run/timeouts.py": "names a folder",
    "rft/run_folder/provenance.py": RECORDS,
    "rft/run_folder/recorder.py": RECORDS,
    "rft/run_folder/run_lock.py": RECORDS,
    "rft/sweep/search.py": "names a folder",
    "rft/trackers/mlflow.py": RECORDS,
    "rft/trackers/tensorboard.py": RECORDS,
}
"""The files that read a wall clock, and why."""


def reads_wall_clock(node: ast.AST) -> bool:
    """Whether a node is a function of a wall clock, such as `time.time`."""
    match node:
        case ast.Attribute(value=ast.Name(id=owner), attr=name):
            return (owner, name) in WALL_CLOCKS
        case ast.Attribute(value=ast.Attribute(attr=owner), attr=name):
            return (owner, name) in WALL_CLOCKS
        case ast.ImportFrom(module="time", names=names):
            return any(("time", name.name) in WALL_CLOCKS for name in names)
    return False


def test_wall_clocks_only_record_times() -> None:
    readers = {
        path.relative_to(ROOT).as_posix()
        for top in ("rft", "graders")
        for path in sorted((ROOT / top).rglob("*.py"))
        if MAY_READ.search(path.read_text(encoding="utf-8")) and any(map(reads_wall_clock, ast.walk(parsed(path))))
    }
    assert readers == READERS.keys()
