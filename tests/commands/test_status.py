"""`rft status` on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from rft.events import RunEnded, RunStarted
from rft.health.heartbeat import Heartbeat

Rft = Callable[..., tuple[int, str, str]]


def run_that_ended(folder: Path, status: str) -> None:
    beat = Heartbeat(folder)
    beat.event(RunStarted(name="mine", folder=folder, config={}, steps=5))
    beat.event(RunEnded(status=status, last_step=5, summary={}, paths={}, resume=None))


def test_a_run_that_has_finished(rft: Rft, tmp_path: Path) -> None:
    run_that_ended(tmp_path, "finished")
    code, output, _ = rft("status", str(tmp_path))
    assert code == 0
    assert output.splitlines()[:3] == [f"run       {tmp_path}", "state     finished", "step      5 of 5"]


def test_json_for_scripts_and_the_exit_code_of_a_run_that_failed(rft: Rft, tmp_path: Path) -> None:
    run_that_ended(tmp_path, "failed")
    code, output, _ = rft("status", "--json", str(tmp_path))
    assert code == 1
    status = json.loads(output)
    assert (status["state"], status["heartbeat"]["step"], status["folder_bytes"]) == (
        "failed",
        5,
        (tmp_path / "heartbeat.json").stat().st_size,
    )


def test_a_folder_that_is_no_run(rft: Rft, tmp_path: Path) -> None:
    code, _, errors = rft("status", str(tmp_path))
    assert code == 2
    assert "has no heartbeat.json: give the folder of a run" in errors
