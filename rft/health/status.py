"""Reads the state of a run from its folder, from any process or host that sees the folder."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from rft.errors import OutputError
from rft.health.heartbeat import HEARTBEAT
from rft.health.process import lives
from rft.run_folder.recorder import SUMMARY
from rft.wording import plural

State = Literal["running", "silent", "dead", "finished", "interrupted", "pruned", "failed"]

SILENT_BEATS = 6
"""Number of missing heartbeats after which a run counts as silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """The state of a run.

    Example:
        RunStatus(state="running", age_s=2.0, heartbeat={"step": 7, ...}, folder_bytes=45_000_000)
    """

    state: State
    """`running`; `silent` without a recent heartbeat; `dead` if its process has ended without a summary; or how the run
    ended."""
    age_s: float | None
    """Seconds since the last heartbeat; None without one."""
    heartbeat: Mapping[str, Any]
    """Content of heartbeat.json, or of summary.json for a run without a heartbeat."""
    folder_bytes: int
    """Size of the run folder."""

    @property
    def is_well(self) -> bool:
        """Whether the run is running or finished."""
        return self.state in ("running", "finished")


def read_status(folder: Path) -> RunStatus:
    """Read the state of a run.

    Raises:
        OutputError: The folder holds no training run, or its heartbeat or summary is damaged.
    """
    num_bytes = sum(_sizes(folder))
    file = folder / HEARTBEAT
    if not file.is_file():
        if not (folder / SUMMARY).is_file():
            problem = f"{folder} has no {HEARTBEAT}: give the folder of a run, such as runs/quickstart/<time>"
            raise OutputError("status", [problem])
        summary = _read(folder / SUMMARY)
        if "steps" not in summary:
            problem = f"{folder} holds no training run but a measurement, whose result is in {SUMMARY}"
            raise OutputError("status", [problem])
        ended = {"step": summary["steps"], "resume": summary.get("resume")}
        with _intact(folder / SUMMARY):
            state = _ended(summary["status"])
        return RunStatus(state=state, age_s=None, heartbeat=ended, folder_bytes=num_bytes)
    heartbeat = _read(file)
    with _intact(file):
        age_s = _age_s(heartbeat)
        state = _state(heartbeat, age_s)
    return RunStatus(state=state, age_s=age_s, heartbeat=heartbeat, folder_bytes=num_bytes)


def _read(file: Path) -> dict[str, Any]:
    with _intact(file):
        content = json.loads(file.read_text(encoding="ascii"))
        json.dumps(content, ensure_ascii=False).encode()  # half a surrogate pair could not be printed
    if not isinstance(content, dict):
        raise OutputError("status", [f"{file} is damaged: it is no JSON object"])
    return content


@contextmanager
def _intact(file: Path) -> Iterator[None]:
    """Turn an error from a file that rft did not write into an `OutputError` that names the file."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise OutputError("status", [f"{file} is damaged: {type(error).__name__}: {error}"]) from error


def _age_s(heartbeat: Mapping[str, Any]) -> float:
    """Return the seconds since a heartbeat. A changed clock matters only for a process that cannot be seen."""
    uptime_s = heartbeat.get("written_at_uptime_s")
    if uptime_s is not None and is_here(heartbeat) and lives(heartbeat["pid"], heartbeat["process_start_ticks"]):
        return max(0.0, time.monotonic() - float(uptime_s))
    return max(0.0, time.time() - datetime.fromisoformat(heartbeat["written_at"]).timestamp())


def _state(heartbeat: Mapping[str, Any], age_s: float) -> State:
    if heartbeat["status"] != "running":
        return _ended(heartbeat["status"])
    if is_here(heartbeat) and not lives(heartbeat["pid"], heartbeat["process_start_ticks"]):
        return "dead"
    return "silent" if age_s > SILENT_BEATS * heartbeat["every_s"] else "running"


def _ended(status: Any) -> State:
    """Return a recorded state. Raises ValueError for any other value."""
    if status not in get_args(State):
        raise ValueError(f"{status!r} is no state of a run")
    state: State = status
    return state


def is_here(heartbeat: Mapping[str, Any]) -> bool:
    """Whether the process of the run belongs to this host."""
    return bool(heartbeat["host"] == socket.gethostname())


def _sizes(folder: Path) -> Iterator[int]:
    for top, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.lstat(os.path.join(top, name)).st_size
            except FileNotFoundError:  # removed meanwhile
                continue


def status_lines(status: RunStatus, folder: Path) -> list[tuple[str, str]]:
    """Return the state of a run as pairs of a label and a text.

    Raises:
        OutputError: The heartbeat is damaged.
    """
    with _intact(folder / HEARTBEAT):
        return _lines(status, folder)


def _lines(status: RunStatus, folder: Path) -> list[tuple[str, str]]:
    beat = status.heartbeat
    lines = [("run", str(folder)), ("state", _state_text(status, folder))]
    if status.state in ("running", "silent", "dead"):
        lines.append(("phase", beat["phase"]))
    steps = f" of {beat['steps']}" if beat.get("steps") else ""
    speed = ""
    if beat.get("step_s"):
        speed = f", {beat['step_s']:.1f} s/step, {3600 / beat['step_s']:.0f} steps/hour"
    lines.append(("step", f"{beat['step']}{steps}{speed}"))
    if status.state in ("running", "silent"):
        lines += [("waiting", _wait_text(wait, status.age_s or 0.0)) for wait in beat["waits"]]
    lines += [("lost", reason) for reason in beat.get("lost", {}).values()]
    if counts := {name: int(number) for name, number in beat.get("recovery", {}).items() if number}:
        lines.append(("recovery", ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in counts.items())))
    if most := beat.get("open_episodes"):
        nodes = ", ".join(f"{int(number)} on node {name}" for name, number in most.items())
        lines.append(("episodes", f"most at the same time in the last step: {nodes}"))
    lines += [("warning", f"{warning['time']} {warning['text']}") for warning in beat.get("warnings", ())]
    free = f", {beat['disk_free_bytes'] / 1e9:.1f} GB free on its disk" if "disk_free_bytes" in beat else ""
    lines.append(("disk", f"{status.folder_bytes / 1e6:.1f} MB{free}"))
    if beat.get("metrics_at"):
        lines.append(("metrics", beat["metrics_at"]))
    return lines


def _state_text(status: RunStatus, folder: Path) -> str:
    beat = status.heartbeat
    if status.age_s is None or status.state not in ("running", "silent", "dead"):
        resume = f"; to continue: {beat['resume']}" if beat.get("resume") else ""
        return f"{status.state}{resume}"
    process = f"process {beat['pid']} on {beat['host']}"
    ago = f"last heartbeat {plural(round(status.age_s), 'second')} ago"
    if status.state == "running":
        return f"running: {process}, {ago}"
    if status.state == "silent":
        where = "hangs or is stopped" if is_here(beat) else "cannot be seen from this host"
        return f"silent: {process} {where}, {ago}"
    return f"dead: {process} has ended without a summary, {ago}; to continue: rft train resume={folder}"


def _wait_text(wait: Mapping[str, Any], age_s: float) -> str:
    limit = f"of {wait['deadline_s']:.0f} " if wait["deadline_s"] is not None else ""
    return f"{wait['waited_s'] + age_s:.0f} {limit}s for {wait['what']}"
