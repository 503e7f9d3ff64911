"""Runs that are killed, asked to end, or out of disk: they leave whole files, and continue to the same end."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rft.errors import WriteError
from rft.reliability.durable import writing
from rft.run.training import Training
from rft.run_folder.find_checkpoint import can_be_resumed, last_checkpoint, list_checkpoints
from rft.run_folder.recorder import Recorder, read_metrics, read_rollouts
from rft.types import Policy
from tests.kill_points import killed_at
from tests.run.conftest import BASE

NEVER = "loop.checkpoint_every_steps=1000"


def course(run: Path) -> list[tuple[Any, ...]]:
    """What each step did, without the times."""
    return [(line["step"], line["policy"], line["metrics"], line["drops"]) for line in read_metrics(run)]


def rollouts(run: Path) -> list[dict[str, Any]]:
    return list(read_rollouts(run))


def resume(training: Callable[..., Training], parts: Any, run: Path, *words: str) -> int:
    """Continue a run in the folder of the fixtures as `rft train --or-resume` does; return the exit code."""
    run.mkdir(exist_ok=True)
    (run / "config.yaml").touch()
    step = last_checkpoint(run)[1] if can_be_resumed(run) else None
    parts.policy = Policy(version=step, fingerprint=f"step {step}") if step else BASE
    recorder = Recorder.resume(run, last_step=step)
    return asyncio.run(training(*words, last_step=step or 0, recorder=recorder).train())


OTHERS = [pytest.param(first, marks=pytest.mark.full) for first in range(12) if first not in (0, 6)]


@pytest.mark.parametrize("first", [0, 6, *OTHERS])
def test_a_run_that_is_killed_at_any_change_of_the_disk_ends_the_same(
    training: Callable[..., Training], parts: Any, tmp_path: Path, first: int
) -> None:
    run = tmp_path / "run"
    words = ("loop.steps=2", "loop.checkpoint_every_steps=1", "evaluation.every_steps=1")
    assert asyncio.run(training(*words).train()) == 0
    expected = course(run), rollouts(run)
    for number in range(first, 10_000, 12):
        shutil.rmtree(run)
        parts.policy = BASE
        with killed_at(number) as point:
            asyncio.run(training(*words).train())
        if not point.is_dead:
            return
        assert resume(training, parts, run, *words) == 0
        assert (course(run), rollouts(run)) == expected, f"killed at change {number}"
        assert all(not checkpoint.damage for checkpoint in list_checkpoints(run))
    raise AssertionError("the run does not end")


def full_disk(path: Path, *_: object) -> None:
    with writing(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_ends_the_run_with_the_first_file_that_failed(
    training: Callable[..., Training], parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    assert asyncio.run(training().train()) == 0
    expected = course(run), rollouts(run)
    shutil.rmtree(run)

    def fill_disk(step: int) -> None:
        if step == 3:
            for name in ("rollout_files.append", "recorder.append", "recorder.replace_file"):
                patch.setattr(f"rft.run_folder.{name}", full_disk)

    parts.learning, parts.policy = fill_disk, BASE
    message = rf"{run}/rollouts.jsonl cannot be written: No space left"
    with monkeypatch.context() as patch, pytest.raises(WriteError, match=message) as caught:
        asyncio.run(training().train())
    assert caught.value.exit_code == 74
    first, second = caught.value.__notes__
    assert first == f"to continue from step 2: rft train resume={run}"
    assert second.startswith(f"{run}/summary.json cannot be written: No space left on device")
    assert parts.is_closed

    parts.learning = lambda step: None
    assert resume(training, parts, run) == 0
    assert (course(run), rollouts(run)) == expected


@contextmanager
def limited(limit: int, soft: Callable[[], int]) -> Iterator[Callable[[], None]]:
    """Yield a function that lowers a limit of this process until the end of the block."""
    before = resource.getrlimit(limit)
    try:
        yield lambda: resource.setrlimit(limit, (soft(), before[1]))
    finally:
        resource.setrlimit(limit, before)


def lowest_free_handle() -> int:
    """Return the number that the next file of this process would get."""
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    return descriptor


@contextmanager
def read_only_disk() -> Iterator[Callable[[], None]]:
    """Yield a function that makes opening files for writing fail, as on a disk that became read-only.

    A fake, because rights do not bind root, and mounts need privileges.
    """
    open_file = io.open

    def open_read_only(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if set(mode) & set("wax+"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(file))
        return open_file(file, mode, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        yield lambda: patch.setattr(io, "open", open_read_only)


SCARCITY = {
    "no file handles": (
        lambda: limited(resource.RLIMIT_NOFILE, lowest_free_handle),
        r"Too many open files; raise the limit of open files \(ulimit -n\)",
    ),
    "small files": (
        lambda: limited(resource.RLIMIT_FSIZE, lambda: 64),
        r"File too large; raise the limit of file sizes \(ulimit -f\)",
    ),
    "read-only disk": (read_only_disk, "Read-only file system; mount the disk for writing"),
}


@pytest.mark.parametrize(("scarce", "problem"), SCARCITY.values(), ids=SCARCITY)
def test_a_scarce_resource_ends_the_run_with_its_remedy(
    training: Callable[..., Training], parts: Any, tmp_path: Path, scarce: Any, problem: str
) -> None:
    run = tmp_path / "run"
    assert asyncio.run(training().train()) == 0
    expected = course(run), rollouts(run)
    shutil.rmtree(run)
    parts.policy = BASE
    with (
        scarce() as strike,
        pytest.raises(WriteError, match=rf"^{run}/rollouts.jsonl cannot be written: {problem}\n") as caught,
    ):
        parts.learning = lambda step: strike() if step == 3 else None
        asyncio.run(training().train())
    assert caught.value.exit_code == 74
    assert caught.value.__notes__[0] == f"to continue from step 2: rft train resume={run}"
    assert parts.is_closed

    parts.learning = lambda step: None
    assert resume(training, parts, run) == 0
    assert (course(run), rollouts(run)) == expected


@pytest.mark.parametrize("step", [2, 3])
def test_a_run_folder_that_is_deleted_ends_the_run_and_is_not_created_again(
    training: Callable[..., Training], parts: Any, tmp_path: Path, step: int
) -> None:
    run = tmp_path / "run"
    parts.learning = lambda number: shutil.rmtree(run) if number == step else None
    with pytest.raises(
        WriteError, match="its folder was deleted or moved: restore the folder, or run the command again"
    ):
        asyncio.run(training().train())
    assert list(tmp_path.iterdir()) == []
    assert parts.is_closed


def test_a_step_that_takes_too_long_is_dropped_and_the_one_before_saved(
    training: Callable[..., Training], parts: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert asyncio.run(training(NEVER).train()) == 0
    expected = course(run), rollouts(run)
    shutil.rmtree(run)

    async def terminate_in_step_3() -> None:
        if parts.step == 2 and parts.policy.version == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(3600)

    parts.grading, parts.policy = terminate_in_step_3, BASE
    assert asyncio.run(training(NEVER, "evaluation.every_steps=null", "loop.stop_timeout_s=0.01").train()) == 143
    assert (last_checkpoint_step(run), [line["step"] for line in read_metrics(run)]) == (2, [0, 1, 2])
    assert parts.num_saves == 2, "once by the undisturbed run"

    async def nothing() -> None: ...

    parts.grading = nothing
    assert resume(training, parts, run, NEVER, "evaluation.every_steps=null") == 0
    got = course(run), rollouts(run)
    assert [step[:2] for step in got[0]] == [step[:2] for step in expected[0]]
    assert got[1] == [line for line in expected[1] if line["phase"] != "validation"]


def last_checkpoint_step(run: Path) -> int:
    (run / "config.yaml").touch()
    return last_checkpoint(run)[1]


def test_a_step_that_is_being_learned_is_finished_and_saved(
    training: Callable[..., Training], parts: Any, tmp_path: Path
) -> None:
    parts.learning = lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 2 else None
    assert asyncio.run(training(NEVER, "loop.stop_timeout_s=3600").train()) == 143
    assert last_checkpoint_step(tmp_path / "run") in (2, 3)


def test_the_time_of_a_checkpoint_is_in_the_line_of_the_next_step(
    training: Callable[..., Training], tmp_path: Path
) -> None:
    assert asyncio.run(training("loop.checkpoint_every_steps=1").train()) == 0
    lines = read_metrics(tmp_path / "run")
    assert ["checkpoint" in line["seconds"] for line in lines] == [False, False, True, True]
