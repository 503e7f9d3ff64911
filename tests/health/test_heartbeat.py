"""heartbeat.json says what a run does, and is never half a file."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rft.events import (
    PhaseStarted,
    RunEnded,
    RunStarted,
    SamplerLost,
    SamplerReplaced,
    StepFinished,
    StepTrained,
    Warned,
)
from rft.health import heartbeat
from rft.health.heartbeat import Heartbeat
from rft.health.process import start_of
from rft.waiting import Wait


def read(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "heartbeat.json").read_text(encoding="ascii"))
    return content


def test_the_first_heartbeat_names_the_process(
    beat: Heartbeat, started: Callable[..., RunStarted], tmp_path: Path
) -> None:
    beat.event(started(tmp_path, last_step=6))
    content = read(tmp_path)
    assert (content["host"], content["pid"]) == (socket.gethostname(), os.getpid())
    assert content["process_start_ticks"] == start_of(os.getpid())
    assert (content["status"], content["phase"], content["step"], content["steps"]) == ("running", "starting", 6, 20)
    assert (content["name"], content["step_s"], content["recovery"], content["warnings"]) == ("mine", None, {}, [])
    assert content["disk_free_bytes"] > 0
    beat.close()


def test_steps_phases_and_recoveries(
    beat: Heartbeat,
    started: Callable[..., RunStarted],
    finished: Callable[..., StepFinished],
    clock: Any,
    tmp_path: Path,
) -> None:
    beat.event(started(tmp_path))
    beat.event(PhaseStarted(text="training"))
    for step, seconds in ((1, 3.0), (2, 4.0), (3, 6.0)):
        clock.now += seconds
        beat.event(finished(step, reward__mean=step / 4, recovery__sampler_restarts=float(step == 2)))
    beat.event(PhaseStarted(text="measuring validation: 2 tasks"))
    beat.event(SamplerLost(sampler="sampler 0 on node a", reason="sampler 0 is gone: killed", num_completions=3))
    beat.event(SamplerLost(sampler="sampler 1", reason="sampler 1 hangs", num_completions=0))
    beat.event(SamplerReplaced(sampler="sampler 0 on node b", seconds=8.0))
    beat.event(Warned(text="the disk is slow"))
    content = beat.snapshot()
    assert (content["step"], content["step_s"]) == (3, 5.0)  # (4 s + 6 s) / 2
    assert content["phase"] == "measuring validation: 2 tasks"
    assert content["recovery"] == {"sampler_restarts": 1.0}
    assert content["open_episodes"] == {}
    assert [warning["text"] for warning in content["warnings"]] == ["the disk is slow"]
    assert content["lost"] == {"sampler 1": "sampler 1 hangs"}
    assert beat.metrics() == {"reward/mean": 0.75, "recovery/sampler_restarts": 0.0}
    beat.event(finished(4, **{"environment__open_max/gpu.1": 12.0}))
    assert beat.snapshot()["open_episodes"] == {"gpu.1": 12.0}
    beat.event(StepTrained(report=finished(4).report, groups=()))
    assert beat.snapshot()["phase"] == "training"
    beat.close()


def test_waits_come_the_most_urgent_first_and_without_secrets(
    beat: Heartbeat, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = [
        Wait("a reply of http://user:hunter2@judge", since=999.0),
        Wait("the learner's step", since=925.0, deadline_s=300.0),
        Wait("1 of 64 completions", since=900.0, deadline_s=200.0),
    ]
    monkeypatch.setattr(heartbeat, "current_waits", lambda: tuple(waits))
    assert beat.snapshot()["waits"] == [
        {"what": "1 of 64 completions", "waited_s": 100.0, "deadline_s": 200.0},
        {"what": "the learner's step", "waited_s": 75.0, "deadline_s": 300.0},
        {"what": "a reply of http://user:***@judge", "waited_s": 1.0, "deadline_s": None},
    ]


def test_the_end_of_a_run_is_the_last_heartbeat(
    beat: Heartbeat, started: Callable[..., RunStarted], tmp_path: Path
) -> None:
    beat.event(started(tmp_path))
    resume = f"rft train resume={tmp_path}"
    beat.event(RunEnded(status="failed", last_step=4, summary={}, paths={}, resume=resume))
    content = read(tmp_path)
    assert (content["status"], content["step"], content["resume"]) == ("failed", 4, resume)
    (tmp_path / "heartbeat.json").unlink()
    beat.close()
    assert not (tmp_path / "heartbeat.json").exists()


def test_a_heartbeat_that_cannot_be_written_is_counted_in_the_next(
    beat: Heartbeat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        beat.write()
    beat.write()
    assert read(tmp_path)["failed_writes"] == 1


def test_a_thread_writes_while_nothing_else_happens(tmp_path: Path, started: Callable[..., RunStarted]) -> None:
    written = threading.Semaphore(0)

    class Counted(Heartbeat):
        def write(self) -> None:
            super().write()
            written.release()

    beat = Counted(tmp_path, beat_s=0.01)
    beat.event(started(tmp_path))
    for _ in range(3):  # the first one is written by the event
        assert written.acquire(timeout=60)
    beat.close()


def test_the_thread_does_not_replace_the_last_heartbeat(
    beat: Heartbeat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close_meanwhile(_: float) -> bool:
        """Return that the time is up; the run ends before the thread goes on."""
        was_stopped = beat._stopped.is_set()
        beat.event(RunEnded(status="finished", last_step=4, summary={}, paths={}, resume=None))
        (tmp_path / "heartbeat.json").write_text("the last one")
        return was_stopped

    monkeypatch.setattr(beat._stopped, "wait", close_meanwhile)
    beat._beat()
    assert (tmp_path / "heartbeat.json").read_text() == "the last one"


def test_one_thread_writes_at_a_time(beat: Heartbeat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, could_write = Path.replace, []

    def replaced(path: Path, target: Path) -> Path:
        other = threading.Thread(target=lambda: could_write.append(beat._writing.acquire(blocking=False)))
        other.start()
        other.join()
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", replaced)
    beat.write()
    assert could_write == [False]
