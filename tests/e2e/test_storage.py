"""Runs that outlive their machine: copied to storage while they go on, and gone on with from there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest

from rft.run_folder.copies.copied_files import travels, whole_checkpoints
from rft.run_folder.recorder import read_metrics, read_rollouts
from rft.storage import Place
from tests.chaos.harness import MARK, Family, orphaned_shared_memory, shared_memory

pytestmark = pytest.mark.e2e

RFT = Path(sys.executable).with_name("rft")
TASKS = Path(__file__).parents[2] / "rft" / "embedded" / "tasks" / "chain_sum"
DEADLINE_S = 600.0
FAKE = (
    "experiment=quickstart",
    "sampler=fake",
    "learner=fake",
    "loop.prompts_per_step=4",
    "loop.completions_per_prompt=4",
    "loop.staleness=1",
    "data.test=test.jsonl",
    "data.validation=null",
    "evaluation.every_steps=null",
    "logging=none",
    "output_dir=run",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for machine in ("first", "second"):
        (tmp_path / machine).mkdir()
        lines = (TASKS / "test.jsonl").read_text().splitlines(keepends=True)[:6]
        (tmp_path / machine / "test.jsonl").write_text("".join(lines))
    return tmp_path


def kill_once_stored(*words: str, cwd: Path, copy: Place) -> list[str]:
    """Start a run, and kill its driver two steps after a checkpoint that its copy has; return what is left of it."""
    mark, memory = uuid.uuid4().hex, shared_memory()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", MARK: mark}
    started = subprocess.Popen(
        [RFT, *words], cwd=cwd, stdout=subprocess.PIPE, text=True, start_new_session=True, env=environment
    )
    family = Family(started.pid, mark)
    overdue = threading.Timer(DEADLINE_S, lambda: os.killpg(started.pid, signal.SIGKILL))
    overdue.start()
    assert started.stdout is not None
    try:
        for line in started.stdout:
            step = re.match(r"step (\d+)/", line)
            if step and (stored := whole_checkpoints(copy.files("checkpoints"))) and int(step[1]) >= stored[0] + 2:
                family.look(with_ports=True)
                os.kill(started.pid, signal.SIGKILL)
                break
        assert started.wait() == -signal.SIGKILL
    finally:
        overdue.cancel()
    return [*family.left(), *orphaned_shared_memory(memory)]


def course(run: Path, last: int) -> list[tuple[Any, ...]]:
    """What each step up to the last did, without the times."""
    return [
        (
            line["step"],
            line["policy"],
            {k: v for k, v in line["metrics"].items() if not k.endswith("_s")},
            line["drops"],
        )
        for line in read_metrics(run)[: last + 1]
    ]


def said(run: Path, last: int) -> list[tuple[Any, ...]]:
    """What was sampled up to that step."""
    keys = ("phase", "step", "task_id", "index", "completion", "reward")
    lines = (line for line in read_rollouts(run) if line["phase"] != "after" and line["step"] <= last)
    return sorted(tuple(line[key] for key in keys) for line in lines)


def test_a_run_goes_on_where_nothing_of_it_is_left(folder: Path, rft_in_process: Any) -> None:
    """It does again what the killed one did after its last stored checkpoint. No process outlives the killed driver."""
    storage = f"storage=file://{folder}/bucket"
    copy = Place(f"file://{folder}/bucket/quickstart/run")
    # Slow enough for a copy to be there before the next checkpoint.
    slow = (
        "graders.correct.use=exact",
        "sampler.completions_per_s=100",
        "loop.checkpoint_every_steps=4",
        "loop.steps=1000000",
    )
    assert kill_once_stored("train", *FAKE, *slow, storage, cwd=folder / "first", copy=copy) == []
    [done, *_] = whole_checkpoints(copy.files())
    killed = folder / "first" / "run"
    last = read_metrics(killed)[-1]["step"]
    expected = course(killed, last), said(killed, last)
    shutil.rmtree(folder / "first")

    steps = max(last, done + 1)
    resumed = rft_in_process("train", f"resume={copy}", f"loop.steps={steps}", cwd=folder / "second")
    assert resumed.code == 0
    assert f"bringing the run from {copy} to run" in resumed.output
    here = folder / "second" / "run"
    assert [line["step"] for line in read_metrics(here)] == list(range(steps + 1))
    assert (course(here, last), said(here, last)) == expected
    assert len(list(read_rollouts(here))) == 2 * 6 + 16 * steps

    # The copy is what the run folder is.
    files = {path.relative_to(here).as_posix(): path for path in here.rglob("*") if path.is_file()}
    kept = {name: path.read_bytes() for name, path in files.items() if travels(name)}
    assert {name: copy.read(name) for name in copy.files()} == kept
    assert whole_checkpoints(kept)[0] == steps
    summary = json.loads((here / "summary.json").read_text())
    assert (summary["status"], summary["storage"]) == ("finished", {"place": str(copy), "failed_copies": 0})

    again = rft_in_process("train", *FAKE, storage, "loop.steps=2", "output_dir=third/run", cwd=folder / "second")
    assert again.code == 2
    assert f"{copy} already holds a run; continue it with resume={copy}" in again.output


def test_storage_that_goes_away_is_told_counted_and_an_error_at_the_end(folder: Path, rft_in_process: Any) -> None:
    # Its folder becomes a file once the run has begun; the grader sees the first step.
    (folder / "first" / "spoil.py").write_text(
        "import pathlib, shutil\n\n\ndef spoil(completion):\n"
        f"    bucket = pathlib.Path({str(folder / 'bucket')!r})\n"
        "    if bucket.is_dir() and pathlib.Path('spoil').exists():\n"
        "        shutil.rmtree(bucket, ignore_errors=True)\n        bucket.touch()\n"
        "    return 1.0\n"
    )
    (folder / "first" / "spoil").touch()
    spoil = ("~graders.correct", "graders.spoil.use=spoil.py:spoil", "grading.num_workers=1")
    words = (*FAKE, *spoil, "loop.steps=3", "loop.checkpoint_every_steps=2")
    run = rft_in_process("train", *words, f"storage={folder}/bucket", "storage_timeout_s=5", cwd=folder / "first")
    assert run.code == 1
    failure = rf"{folder}/bucket/quickstart/run: \S+ cannot be \w+: \w+: "
    assert re.search(f"warning: step 2 is not in storage: {failure}", run.output)
    assert re.search(f"rft: the copy of the run is not complete: {failure}", run.output)
    assert "rft train resume=run copies what is missing" in run.output
    summary = json.loads((folder / "first" / "run" / "summary.json").read_text())
    assert (summary["status"], summary["storage"]["failed_copies"]) == ("finished", 2)

    (folder / "first" / "spoil").unlink()
    (folder / "bucket").unlink()
    assert rft_in_process("train", "resume=run", cwd=folder / "first").code == 0
    assert whole_checkpoints(Place(f"{folder}/bucket/quickstart/run").files()) == [3, 2]
