"""The stacks that a timeout leaves in the run folder."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from rft.errors import WaitTimeout, WriteError
from rft.run import timeouts
from rft.run.timeouts import StackWriter
from rft.waiting import Wait, timeouts_observed, wait_for, waiting

ACTORS = {"SamplerActor-11": "Thread 0x1\n", "LearnerActor-12": "no answer within 2 s: the process is stopped\n"}


async def actors() -> Mapping[str, str]:
    return ACTORS


def test_a_timeout_writes_the_stacks_of_all_processes(tmp_path: Path) -> None:
    said: list[str] = []

    async def job() -> None:
        writer = StackWriter(tmp_path, said.append, lambda text: text.replace("hunter2", "***"), actors)
        with waiting("http://user:hunter2@judge"), timeouts_observed(writer.write), pytest.raises(WaitTimeout):
            await wait_for(asyncio.Event().wait(), what="the learner's step", deadline_s=0.01)

    asyncio.run(job())
    [folder] = (tmp_path / "stacks").iterdir()
    assert said == [
        f"timeout of the learner's step: the stacks of all processes are in {folder}; "
        "without an answer: LearnerActor-12"
    ]
    files = {file.stem: file.read_text() for file in folder.iterdir()}
    assert files.keys() == {"driver", *ACTORS}
    assert files["SamplerActor-11"] == ACTORS["SamplerActor-11"]
    driver = files["driver"]
    assert driver.startswith("timeout: waiting 0 of 0 s for the learner's step\n")
    assert "http://user:***@judge" in driver
    assert "in job" in driver, "the stack of the waiting task"
    assert "most recent call first" in driver, "the stacks of the threads"


def test_the_newest_timeouts_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "MAX_TIMEOUTS", 2)
    said: list[str] = []
    writer = StackWriter(tmp_path, said.append, actors=actors)

    async def job() -> None:
        for number in range(3):
            await writer.write(Wait(f"wait {number}", since=0.0, deadline_s=1.0))

    asyncio.run(job())
    kept = sorted(folder.name for folder in (tmp_path / "stacks").iterdir())
    assert kept == [Path(text.partition(" are in ")[2].partition(";")[0]).name for text in said[1:]]


def test_stacks_that_cannot_be_written_do_not_hide_the_timeout(tmp_path: Path) -> None:
    (tmp_path / "stacks").write_text("a file")
    said: list[str] = []

    async def job() -> None:
        with (
            timeouts_observed(StackWriter(tmp_path, said.append, actors=actors).write),
            pytest.raises(WaitTimeout, match="the learner's step"),
        ):
            await wait_for(asyncio.Event().wait(), what="the learner's step", deadline_s=0.01)

    asyncio.run(job())
    assert said[0].startswith("the stacks at the timeout of the learner's step are lost: ")


def test_a_missing_log_does_not_hide_the_timeout(tmp_path: Path) -> None:
    async def gone() -> Mapping[str, str]:
        raise FileNotFoundError(2, "No such file or directory", "worker-1-11.err")

    async def job() -> None:
        with timeouts_observed(StackWriter(tmp_path, said.append, actors=gone).write), pytest.raises(WaitTimeout):
            await wait_for(asyncio.Event().wait(), what="the learner's step", deadline_s=0.01)

    said: list[str] = []
    asyncio.run(job())
    assert said == [
        "the stacks at the timeout of the learner's step are lost: "
        "[Errno 2] No such file or directory: 'worker-1-11.err'"
    ]


def test_an_error_of_the_observer_is_a_note_of_the_timeout(tmp_path: Path) -> None:
    def full(text: str) -> None:
        raise WriteError("no space left")

    async def job() -> None:
        with (
            timeouts_observed(StackWriter(tmp_path, full, actors=actors).write),
            pytest.raises(WaitTimeout, match="the learner's step") as caught,
        ):
            await wait_for(asyncio.Event().wait(), what="the learner's step", deadline_s=0.01)
        assert caught.value.__notes__ == ["the timeout could not be reported: WriteError: no space left"]

    asyncio.run(job())
