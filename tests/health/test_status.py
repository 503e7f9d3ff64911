"""What another process reads of a run's state."""

from __future__ import annotations

import json
import os
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rft.errors import OutputError
from rft.health.process import start_of
from rft.health.status import read_status, status_lines

WAITS = [
    {"what": "1 of 64 completions", "waited_s": 75.0, "deadline_s": 300.0},
    {"what": "trials to end", "waited_s": 20.0, "deadline_s": None},
]


def write(folder: Path, *, age_s: float = 0.0, **changes: Any) -> Path:
    written_at = datetime.now(UTC) - timedelta(seconds=age_s)
    content = {
        "written_at": written_at.isoformat(timespec="milliseconds"),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_start_ticks": start_of(os.getpid()),
        "every_s": 5.0,
        "status": "running",
        "phase": "training",
        "step": 7,
        "steps": 20,
        "step_s": 4.0,
        "waits": WAITS,
        "open_episodes": {"gpu-1": 12.0, "gpu-2": 11.0},
        "recovery": {"sampler_restarts": 2.0, "learner_restarts": 0.0},
        "lost": {"sampler 1": "sampler 1 on node gpu-2 hangs"},
        "warnings": [{"time": "2026-11-28T10:15:00+00:00", "text": "sampler 1 is gone"}],
        "disk_free_bytes": 12_340_000_000,
        "resume": None,
        "metrics_at": None,
    }
    (folder / "heartbeat.json").write_text(json.dumps(content | changes), encoding="ascii")
    return folder


def test_a_run_that_is_running(tmp_path: Path) -> None:
    (tmp_path / "rollouts.jsonl").write_bytes(b"x" * 2_000_000)
    status = read_status(write(tmp_path))
    assert (status.state, status.is_well) == ("running", True)
    lines = status_lines(status, tmp_path)
    assert lines[1][1].startswith(f"running: process {os.getpid()} on {socket.gethostname()}, last heartbeat ")
    assert lines[2:4] == [("phase", "training"), ("step", "7 of 20, 4.0 s/step, 900 steps/hour")]
    assert [label for label, _ in lines[4:6]] == ["waiting", "waiting"]
    assert lines[4][1].endswith(" of 300 s for 1 of 64 completions")
    assert lines[5][1].endswith(" s for trials to end")
    assert lines[6:10] == [
        ("lost", "sampler 1 on node gpu-2 hangs"),
        ("recovery", "sampler restarts 2"),
        ("episodes", "most at the same time in the last step: 12 on node gpu-1, 11 on node gpu-2"),
        ("warning", "2026-11-28T10:15:00+00:00 sampler 1 is gone"),
    ]
    assert lines[10] == ("disk", "2.0 MB, 12.3 GB free on its disk")


def test_a_clock_that_jumps_does_not_change_the_age_of_a_heartbeat(tmp_path: Path) -> None:
    status = read_status(write(tmp_path, age_s=3600.0, written_at_uptime_s=time.monotonic()))
    assert status.state == "running"
    assert status.age_s is not None
    assert status.age_s < 3600.0
    status = read_status(write(tmp_path, age_s=-3600.0, written_at_uptime_s=time.monotonic() - 7200.0))
    assert status.state == "silent"
    assert status.age_s is not None
    assert 7200.0 <= status.age_s < 10800.0


def test_waits_have_gone_on_since_the_heartbeat(tmp_path: Path) -> None:
    status = read_status(write(tmp_path, age_s=20.0))
    waits = [text for label, text in status_lines(status, tmp_path) if label == "waiting"]
    assert waits == ["95 of 300 s for 1 of 64 completions", "40 s for trials to end"]


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({"age_s": 31.0}, "silent", "hangs or is stopped, last heartbeat 31 seconds ago"),
        ({"age_s": 31.0, "host": "elsewhere"}, "silent", "on elsewhere cannot be seen from this host"),
        ({"age_s": 29.0, "host": "elsewhere", "pid": 1}, "running", "running: process 1 on elsewhere"),
        ({"process_start_ticks": 1}, "dead", "has ended without a summary"),
        ({"status": "finished"}, "finished", "finished"),
        ({"status": "interrupted", "resume": "rft train resume=x"}, "interrupted", "to continue: rft train resume=x"),
    ],
)
def test_states(tmp_path: Path, changes: dict[str, Any], state: str, words: str) -> None:
    status = read_status(write(tmp_path, **changes))
    assert status.state == state
    assert status.is_well == (state in ("running", "finished"))
    assert words in dict(status_lines(status, tmp_path))["state"]


def test_a_dead_run_says_how_to_continue(tmp_path: Path) -> None:
    status = read_status(write(tmp_path, process_start_ticks=1))
    assert dict(status_lines(status, tmp_path))["state"].endswith(f"to continue: rft train resume={tmp_path}")


def test_a_run_without_heartbeats_has_its_summary(tmp_path: Path) -> None:
    summary = {"status": "interrupted", "steps": 3, "resume": "rft train resume=x"}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    status = read_status(tmp_path)
    assert (status.state, status.age_s) == ("interrupted", None)
    labels = dict(status_lines(status, tmp_path))
    assert (labels["state"], labels["step"]) == ("interrupted; to continue: rft train resume=x", "3")


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"has no heartbeat\.json: give the folder of a run"):
        read_status(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("summary.json", '{"status": "finished", "metric": "reward"}', "a measurement, whose result is in summary"),
        ("summary.json", '{"status": "fini', r"summary\.json is damaged: "),
        ("heartbeat.json", "", r"heartbeat\.json is damaged: "),
        ("heartbeat.json", "[]", "it is no JSON object"),
    ],
)
def test_a_folder_without_the_state_of_a_run(tmp_path: Path, file: str, content: str, words: str) -> None:
    (tmp_path / file).write_text(content)
    with pytest.raises(OutputError, match=words):
        read_status(tmp_path)
