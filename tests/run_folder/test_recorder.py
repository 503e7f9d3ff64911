"""The run on disk: what is written, what is dropped on resume, and what happens to a disk that cannot be written."""

import json
import math
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from rft.errors import OutputError, WriteError
from rft.events import PartsStarted
from rft.run_folder.folder_sink import FolderSink
from rft.run_folder.recorder import Recorder, prepare_output, read_losses, read_manifest, read_metrics, read_rollouts
from rft.types import Grade, GradedGroup, Policy, Rollout, Score, Split, Status, StepReport, StopReason, Task
from tests.kill_points import at_every_change

Usage = namedtuple("Usage", "total used free")
POLICY = Policy(version=1, fingerprint="9b2e51c07d44a1f0")


def report(step: int, **metrics: float) -> StepReport:
    return StepReport(step=step, policy=POLICY, metrics=metrics, drops={"g: timeout": 1}, seconds={"learn": 0.5})


def group(text: str = "4") -> GradedGroup:
    task = Task(
        id="t1",
        messages=({"role": "user", "content": "2 + 2 = ?"},),
        item={"answer": 4, "x": math.nan},
        split=Split.TEST,
    )
    rollout = Rollout(
        task_id="t1", index=0, prompt_ids=(5, 9), completion_ids=(7, 2), logprobs=(-0.1, -0.3), text=text,
        stop=StopReason.STOP, policy=POLICY,
    )  # fmt: skip
    scores = {"correct": Score(value=1.0, answer="4"), "style": Score(value=None, status=Status.TIMEOUT, reason="5 s")}
    return GradedGroup(task=task, rollouts=(rollout,), grades=(Grade(scores=scores, reward=None),))


def test_one_line_a_step_with_null_for_what_is_no_number(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.metrics(report(1, loss=math.nan, grad=math.inf))
    recorder.metrics(report(2, loss=0.25))
    first, second = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert first["metrics"] == {"loss": None, "grad": None}
    assert first["policy"] == {"version": 1, "fingerprint": "9b2e51c07d44a1f0"}
    assert second["step"] == 2
    assert second["drops"] == {"g: timeout": 1}
    assert second["seconds"] == {"learn": 0.5}
    assert read_metrics(tmp_path) == [first, second]


def test_a_rollout_line_is_enough_to_grade_again(tmp_path: Path) -> None:
    Recorder(tmp_path).rollouts([group("4\n\u2028\ud800")], step=3, phase="before")
    (line,) = read_rollouts(tmp_path)
    assert line == {
        "step": 3,
        "phase": "before",
        "task_id": "t1",
        "split": "test",
        "messages": [{"role": "user", "content": "2 + 2 = ?"}],
        "item": {"answer": 4, "x": None},
        "index": 0,
        "completion": "4\n\u2028\ud800",
        "num_completion_tokens": 2,
        "stop": "stop",
        "policy": {"version": 1, "fingerprint": "9b2e51c07d44a1f0"},
        "scores": {
            "correct": {"value": 1.0, "status": "ok", "reason": None, "answer": "4", "seconds": 0.0},
            "style": {"value": None, "status": "timeout", "reason": "5 s", "answer": None, "seconds": 0.0},
        },
        "reward": None,
    }
    assert len((tmp_path / "rollouts.jsonl").read_bytes().splitlines()) == 1


def test_resume_drops_what_came_after_the_checkpoint_and_a_line_cut_short(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.rollouts([group()], step=0, phase="before")
    for step in (1, 2, 3):
        recorder.rollouts([group()], step=step, phase="train")
        recorder.losses({"t1": 1 / step, "t2": math.nan}, step=step)
        recorder.metrics(report(step))
    recorder.rollouts([group()], step=2, phase="after")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "met')
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]

    Recorder.resume(tmp_path, last_step=2).metrics(report(3))
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]
    phases = [(line["step"], line["phase"]) for line in read_rollouts(tmp_path)]
    assert phases == [(0, "before"), (1, "train"), (2, "train")]
    assert [line["step"] for line in read_rollouts(tmp_path, "train")] == [1, 2]
    assert read_losses(tmp_path) == {1: {"t1": 1.0}, 2: {"t1": 0.5}}, "without losses that are not finite"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["losses.jsonl", "metrics.jsonl", "rollouts.index", "rollouts.jsonl"]


def test_resume_keeps_kept_lines_to_the_byte(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.metrics(report(1, loss=0.1 + 0.2))
    before = (tmp_path / "metrics.jsonl").read_bytes()
    Recorder.resume(tmp_path, last_step=1)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_nothing_recorded_yet_reads_as_nothing(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []
    assert list(read_rollouts(tmp_path)) == []
    assert read_losses(tmp_path) == {}
    Recorder.resume(tmp_path, last_step=5)
    assert list(tmp_path.iterdir()) == []


def test_a_summary_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.summary({"status": "running", "loss": math.nan})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"status": "running", "loss": None}
    (tmp_path / "summary.json.unfinished").symlink_to("/dev/full")
    with pytest.raises(WriteError, match="No space left on device"):
        recorder.summary({"status": "finished"})
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "running"


def test_a_full_disk_is_explained(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(WriteError, match=r"metrics\.jsonl cannot be written: No space left .* MB free .*make room"):
        Recorder(tmp_path).metrics(report(1))


def test_a_new_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    prepare_output(tmp_path / "runs" / "a")
    assert list((tmp_path / "runs" / "a").iterdir()) == []
    prepare_output(tmp_path / "runs" / "a")


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl"])
def test_a_folder_with_a_run_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(OutputError, match=f"already holds a run; continue it with resume={tmp_path}"):
        prepare_output(tmp_path)


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=f"{tmp_path / 'file'} is a file"):
        prepare_output(tmp_path / "file" / "run")


def test_a_folder_that_cannot_be_made_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 10**12))
    with pytest.raises(OutputError, match="cannot be written"):
        prepare_output(Path("/proc/no-such-run"))


def test_a_nearly_full_disk_is_refused_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 12_000_000, 12_000_000))
    with pytest.raises(OutputError, match="only 12 MB free"):
        prepare_output(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_facts_known_after_the_start_join_the_manifest(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.document("manifest.json", '{"seed": 3, "samplers": []}')
    sink = FolderSink(recorder)
    sink.event(PartsStarted(facts={"samplers": [{"model_runner": "V2"}]}))
    assert read_manifest(tmp_path) == {"seed": 3, "samplers": [{"model_runner": "V2"}]}
    line = json.loads((tmp_path / "events.jsonl").read_text())
    assert (line["event"], line["samplers"]) == ("parts_started", [{"model_runner": "V2"}])


def test_a_run_folder_is_its_owners_alone(tmp_path: Path) -> None:
    prepare_output(tmp_path / "runs" / "a")
    assert (tmp_path / "runs" / "a").stat().st_mode & 0o777 == 0o700
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o750)
    prepare_output(shared)
    assert shared.stat().st_mode & 0o777 == 0o750, "who makes the folder decides"


@pytest.mark.parametrize("damage", [b"\0" * 30, b"\xff\xfe", b'{"step": 2, ', b"[2]"])
def test_a_damaged_line_is_reported_and_left_out(tmp_path: Path, damage: bytes) -> None:
    recorder = Recorder(tmp_path)
    recorder.metrics(report(1))
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(damage + b"\n")
    recorder.metrics(report(3))
    expected = f"{tmp_path}/metrics.jsonl:2: the line is damaged; rft leaves it out"
    with pytest.warns(UserWarning, match="metrics.jsonl:2: the line is damaged"):
        assert [line["step"] for line in read_metrics(tmp_path)] == [1, 3]
    resumed = Recorder.resume(tmp_path, last_step=3)
    assert resumed.damage == [expected]
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 3]


def test_a_run_that_starts_again_in_its_folder_keeps_its_events_alone(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.metrics(report(0))
    recorder.rollouts([group()], step=0, phase="before")
    recorder.event("warned", {"text": "slow"})
    Recorder.resume(tmp_path, last_step=None)
    assert (read_metrics(tmp_path), list(read_rollouts(tmp_path))) == ([], [])
    assert "slow" in (tmp_path / "events.jsonl").read_text()


@pytest.mark.parametrize("last_step", [2, 3])
def test_a_resume_that_is_killed_can_be_made_again(tmp_path: Path, last_step: int) -> None:
    def before(folder: Path) -> None:
        recorder = Recorder(folder)
        for step in (1, 2, 3):
            recorder.rollouts([group()], step=step, phase="train")
            recorder.metrics(report(step))

    for folder in at_every_change(lambda folder: Recorder.resume(folder, last_step=last_step), before, tmp_path):
        Recorder.resume(folder, last_step=last_step)
        assert [line["step"] for line in read_metrics(folder)] == list(range(1, last_step + 1))
        assert [line["step"] for line in read_rollouts(folder)] == list(range(1, last_step + 1))


def test_whenever_the_process_dies_lines_are_whole(tmp_path: Path) -> None:
    def act(folder: Path) -> None:
        Recorder(folder).rollouts([group("two"), group("three")], step=2, phase="train")
        Recorder(folder).metrics(report(2))

    def before(folder: Path) -> None:
        Recorder(folder).metrics(report(1))

    seen = set()
    for folder in at_every_change(act, before, tmp_path):
        texts = tuple(line["completion"] for line in read_rollouts(folder))
        seen.add((texts, tuple(line["step"] for line in read_metrics(folder))))
    # A killed append leaves whole lines and at most one incomplete line, which readers skip.
    assert seen == {((), (1,)), (("two",), (1,)), (("two", "three"), (1,)), (("two", "three"), (1, 2))}
