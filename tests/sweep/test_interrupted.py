"""Sweeps of fake trials, started as a user starts them, that are stopped or killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fake_ray import run_command
from tests.killed_program import run_killed

pytestmark = pytest.mark.e2e

RFT = Path(sys.executable).with_name("rft")
MARK = "RFT_TEST_SWEEP"
DEADLINE_S = 600.0


@dataclass
class Done:
    """A command that has ended."""

    code: int
    output: str
    left: list[psutil.Process]
    """Processes that are still there."""


def rft(*words: str, on_line: Callable[[str, int], None] | None = None) -> Done:
    """Run a command; `on_line(line, pid)` sees each line of its output. In a session of its own, as on a terminal."""
    mark = uuid.uuid4().hex
    started = subprocess.Popen(
        [RFT, *words],
        env={**os.environ, MARK: mark, "PYTHONUNBUFFERED": "1", "COLUMNS": "160"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    overdue = threading.Timer(DEADLINE_S, os.killpg, (started.pid, signal.SIGKILL))
    overdue.start()
    lines, family = [], set()
    try:
        assert started.stdout is not None
        for line in started.stdout:
            lines.append(line)
            if started.poll() is None:
                family |= set(psutil.Process(started.pid).children(recursive=True))
            if on_line is not None:
                on_line(line, started.pid)
        code = started.wait()
    finally:
        overdue.cancel()
    print("".join(lines))  # pytest shows it when the test fails
    _, left = psutil.wait_procs([one for one in family | set(marked(mark)) if one.is_running()], timeout=120)
    return Done(code=code, output="".join(lines), left=left)


def marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def statuses(sweep: Path) -> list[str]:
    return [trial["status"] for trial in trials(sweep)]


def trials(sweep: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((sweep / "sweep.json").read_text())["trials"]
    return found


@pytest.mark.full
@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_during_a_grid(folder: Path, fake: tuple[str, ...], presses: int) -> None:
    training: set[str] = set()

    def press(line: str, pid: int) -> None:
        if "step 1: validation" in line:
            training.add(line.split(",")[0])
        is_time = "step 1: validation" in line and len(training) == 2
        if is_time or (presses == 2 and "stopping: running trials" in line):
            os.killpg(pid, signal.SIGINT)

    long = ("loop.steps=100000", "loop.checkpoint_every_steps=100000")
    side_by_side = ("seed=0,1,2", "hydra.launcher.max_parallel_trials=2", "hydra.sweep.dir=sweep")
    done = rft("train", "-m", *fake, *long, *side_by_side, on_line=press)
    assert (done.code, done.left) == (130, [])
    assert "Traceback" not in done.output
    assert "stopping: running trials finish their step and save, and no further trial starts" in done.output
    assert ("stopping at once" in done.output) == (presses == 2)
    assert "3 trials in" in done.output and "2 interrupted, 1 not started" in done.output
    assert statuses(folder / "sweep") == ["interrupted", "interrupted", "not started"]
    for number in ("0", "1"):
        assert json.loads((folder / "sweep" / number / "summary.json").read_text())["status"] == "interrupted"
        assert list((folder / "sweep" / number / "checkpoints").glob("checkpoint-*")) or presses == 2
    if presses == 2:
        return
    steps = max(json.loads((folder / "sweep" / number / "summary.json").read_text())["steps"] for number in "01") + 1
    again = rft("train", "-m", "--or-resume", *fake, f"loop.steps={steps}", long[1], *side_by_side)
    assert (again.code, again.left) == (0, [])
    assert statuses(folder / "sweep") == ["finished", "finished", "finished"]
    for number in ("0", "1", "2"):
        lines = (folder / "sweep" / number / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(steps + 1))


@pytest.mark.full
def test_ctrl_c_before_the_first_trial(folder: Path, fake: tuple[str, ...]) -> None:
    def press(line: str, pid: int) -> None:
        if "1 at a time" in line:
            os.killpg(pid, signal.SIGINT)

    words = ("seed=range(0,50)", "output_dir=found", "sweep.trials=3", "sweep.parallel=1", "loop.steps=100000")
    done = rft("sweep", *fake, *words, on_line=press)
    assert (done.code, done.left) == (130, [])
    assert "Traceback" not in done.output
    assert "to continue: rft sweep resume=" in done.output
    assert set(statuses(folder / "found")) <= {"interrupted"}


def test_a_search_that_is_killed_goes_on_by_the_same_command(folder: Path, fake: tuple[str, ...]) -> None:
    words = ("sweep", *fake, "seed=range(0,50)", "output_dir=found", "sweep.trials=2", "sweep.parallel=1")
    assert run_killed(*words, cwd=folder, pattern="trial 1 begins") == -signal.SIGKILL
    before = (folder / "found" / "0" / "summary.json").stat().st_mtime_ns

    code, output = run_command(*words, cwd=folder)
    assert code == 0
    assert "1 of them have ended before and are not run again" in output
    assert "trial 0 begins" not in output
    assert (folder / "found" / "0" / "summary.json").stat().st_mtime_ns == before
    assert "trial 1 begins" in output
    assert statuses(folder / "found") == ["finished", "finished"], "what was lost is continued under its number"
