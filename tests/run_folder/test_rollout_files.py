"""Long rollouts in compressed segments, which every reader takes for one file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from rft.run_folder.completions import read_completions
from rft.run_folder.recorder import read_rollouts
from rft.run_folder.rollout_files import RolloutFiles, cut_back_rollouts, rollout_paths
from tests.kill_points import at_every_change


def line(step: int, index: int = 0) -> bytes:
    """A line as short as readers allow; all have the same length up to step 9."""
    return json.dumps({"step": step, "phase": "train", "index": index}).encode() + b"\n"


def write(folder: Path, *steps: int, segment_bytes: int = 2 * len(line(0))) -> None:
    """Write two lines for each step; by default, the lines of a step fill a segment."""
    for step in steps:
        files = RolloutFiles(folder, segment_bytes=segment_bytes)
        files.append(line(step) + line(step, 1))
        files.close()


def read(folder: Path) -> list[tuple[int, int]]:
    return [(one["step"], one["index"]) for one in read_rollouts(folder)]


def both(*steps: int) -> list[tuple[int, int]]:
    return [(step, index) for step in steps for index in (0, 1)]


def resume(folder: Path, last_step: int) -> list[str]:
    said: list[str] = []
    cut_back_rollouts(folder, lambda one: one["step"] <= last_step, said.append)
    return said


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_full_file_becomes_a_compressed_segment(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3)
    assert names(tmp_path) == ["rollouts-000001.jsonl.gz", "rollouts-000002.jsonl.gz", "rollouts.jsonl"]
    assert gzip.decompress((tmp_path / "rollouts-000001.jsonl.gz").read_bytes()) == line(1) + line(1, 1)
    assert read(tmp_path) == both(1, 2, 3)


def test_a_short_run_has_one_file(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3, segment_bytes=2**20)
    assert names(tmp_path) == ["rollouts.jsonl"]


def test_the_same_lines_give_the_same_bytes(tmp_path: Path) -> None:
    segments = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, 1, 2)
        segments.append((tmp_path / name / "rollouts-000001.jsonl.gz").read_bytes())
    assert segments[0] == segments[1]


@pytest.mark.parametrize(
    ("last_step", "left"),
    [
        (5, ["rollouts-000001.jsonl.gz", "rollouts-000002.jsonl.gz", "rollouts.jsonl"]),
        (3, ["rollouts-000001.jsonl.gz", "rollouts-000002.jsonl.gz", "rollouts.jsonl"]),
        (1, ["rollouts-000001.jsonl.gz", "rollouts.jsonl"]),
        (0, ["rollouts.jsonl"]),
    ],
)
def test_a_resume_cuts_segments_back(tmp_path: Path, last_step: int, left: list[str]) -> None:
    write(tmp_path, 1, 2, 3, 4, 5, segment_bytes=4 * len(line(0)))
    assert resume(tmp_path, last_step) == []
    assert names(tmp_path) == left
    assert read(tmp_path) == both(*range(1, last_step + 1))
    write(tmp_path, last_step + 1, segment_bytes=4 * len(line(0)))
    assert read(tmp_path) == both(*range(1, last_step + 2))


def test_old_segments_are_not_read_by_a_resume(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3)
    (tmp_path / "rollouts-000001.jsonl.gz").write_bytes(b"nobody reads this")
    assert resume(tmp_path, 3) == []


def test_whenever_the_process_dies_no_rollout_is_lost_or_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compression runs in this thread, so that its changes are counted too."""
    from concurrent.futures import Future

    def now(call: object, *, name: str) -> Future[object]:
        future: Future[object] = Future()
        future.set_result(call())  # type: ignore[operator]
        return future

    monkeypatch.setattr("rft.run_folder.rollout_files.in_thread", now)
    for folder in at_every_change(lambda folder: write(folder, 2), lambda folder: write(folder, 1), tmp_path):
        found = read(folder)
        assert found in (both(1), [*both(1), (2, 0)], both(1, 2))
        resume(folder, 1)
        assert read(folder) == both(1)
        assert not list(folder.glob("rollouts-*.jsonl")), "a resume completes the rotation"


def test_a_copy_that_was_interrupted_between_two_files_holds_nothing_twice(tmp_path: Path) -> None:
    write(tmp_path, 1)
    older = (tmp_path / "rollouts.jsonl").read_bytes()
    write(tmp_path, 2, 3)
    (tmp_path / "rollouts.jsonl").write_bytes(older)  # the segments arrived, the new rollouts.jsonl did not
    (tmp_path / "rollouts-000002.jsonl").write_bytes(b"")  # nor was the uncompressed segment removed
    resume(tmp_path, 9)
    assert read(tmp_path) == both(1, 2)


def test_a_damaged_segment_is_reported(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    segment = tmp_path / "rollouts-000001.jsonl.gz"
    segment.write_bytes(segment.read_bytes()[:-6])
    with pytest.warns(UserWarning, match=r"rollouts-000001.jsonl.gz is damaged after line 2"):
        assert read(tmp_path) == both(1, 2)


def test_graders_read_the_segments_too(tmp_path: Path) -> None:
    row = {
        "phase": "train", "task_id": "t", "split": "train", "item": {}, "stop": "stop",
        "policy": {"version": 0, "fingerprint": "base"}, "messages": [{"role": "user", "content": "?"}],
    }  # fmt: skip
    files = RolloutFiles(tmp_path, segment_bytes=1)
    for step in (1, 2, 3):
        files.append(json.dumps(row | {"step": step, "completion": f"of step {step}"}).encode() + b"\n")
        files.close()
    with rollout_paths(tmp_path)[-1].open("ab") as file:
        file.write(b'{"step": 4')  # the run goes on
    groups = read_completions(str(tmp_path), columns={}, phase="train")
    assert [group.rollouts[0].text for group in groups] == ["of step 1", "of step 2", "of step 3"]
    assert [place.rpartition("/")[2] for group in groups for place in group.places] == [
        "rollouts-000001.jsonl.gz:1",
        "rollouts-000002.jsonl.gz:1",
        "rollouts.jsonl:1",
    ]
