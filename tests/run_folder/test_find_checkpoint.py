"""The checkpoint that a run goes on from, and the list of all of them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rft.errors import OutputError
from rft.learning.checkpoints import seal
from rft.run_folder.find_checkpoint import described, last_checkpoint, list_checkpoints, set_aside_later_checkpoints


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    return tmp_path


def add_checkpoint(run: Path, step: int, *, whole: bool = True, sealed: bool = False) -> Path:
    folder = run / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "optimizer.pt").write_text("weights")
    if sealed:
        seal(folder, step)
    elif whole:
        (folder / "complete.json").write_text(json.dumps({"step": step}))
    return folder


def add_lines(run: Path, *steps: int) -> None:
    (run / "metrics.jsonl").write_text("".join(json.dumps({"step": step}) + "\n" for step in steps))


def test_the_newest_by_number_not_by_name(run: Path) -> None:
    for step in (9, 10, 2):
        add_checkpoint(run, step)
    assert last_checkpoint(run) == (run / "checkpoints" / "checkpoint-10", 10)


def test_an_interrupted_checkpoint_is_passed_over(run: Path) -> None:
    whole = add_checkpoint(run, 20)
    add_checkpoint(run, 40, whole=False)
    said: list[str] = []
    assert last_checkpoint(run, said.append) == (whole, 20)
    assert said == []


def test_no_whole_checkpoint(run: Path) -> None:
    add_checkpoint(run, 20, whole=False)
    with pytest.raises(OutputError, match="the run has no complete checkpoint; start a new run"):
        last_checkpoint(run)


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=rf"resume={tmp_path}: the folder contains no run \(no config.yaml\)"):
        last_checkpoint(tmp_path)
    with pytest.raises(OutputError, match=r"the folder contains no run \(no config.yaml\)"):
        list_checkpoints(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda file: file.write_text("wEights"), "optimizer.pt has another content than when it was written"),
        (lambda file: file.unlink(), "optimizer.pt is missing"),
        (lambda file: (file.parent / "complete.json").write_text(""), "complete.json is torn or altered"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    run: Path, spoil: Callable[[Path], object], problem: str
) -> None:
    older, newer = add_checkpoint(run, 6, sealed=True), add_checkpoint(run, 9, sealed=True)
    spoil(newer / "optimizer.pt")
    said: list[str] = []
    assert last_checkpoint(run, said.append) == (older, 6)
    assert said == [f"{newer} is damaged: {problem}; the run continues from checkpoint-6"]


def test_no_checkpoint_is_whole(run: Path) -> None:
    for step in (6, 9):
        (add_checkpoint(run, step, sealed=True) / "optimizer.pt").unlink()
    with pytest.raises(OutputError, match=r"optimizer.pt is missing") as caught:
        last_checkpoint(run)
    assert [problem.split(": ")[-1] for problem in caught.value.problems] == [
        "optimizer.pt is missing",
        "optimizer.pt is missing",
        "no checkpoint is whole; resume from a copy of the run, or start a new run",
    ]


def test_a_checkpoint_whose_line_was_lost_is_passed_over(run: Path) -> None:
    older, newer = add_checkpoint(run, 6, sealed=True), add_checkpoint(run, 9, sealed=True)
    add_lines(run, *range(8))
    said: list[str] = []
    assert last_checkpoint(run, said.append) == (older, 6)
    assert said == [f"{newer} is damaged: metrics.jsonl has no line for step 9; the run continues from checkpoint-6"]
    add_lines(run, *range(10))
    assert last_checkpoint(run) == (newer, 9)


def test_later_checkpoints_are_set_aside_where_they_harm_nothing(run: Path) -> None:
    for step in (6, 9):
        add_checkpoint(run, step, sealed=True)
    set_aside_later_checkpoints(run, 6)
    add_checkpoint(run, 9, sealed=True)
    set_aside_later_checkpoints(run, 6)
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == ["checkpoint-6", "damaged-checkpoint-9", "damaged-checkpoint-9-2"]


def test_the_list_verifies_each(run: Path) -> None:
    add_checkpoint(run, 3)
    add_checkpoint(run, 6, sealed=True)
    (add_checkpoint(run, 9, sealed=True) / "optimizer.pt").write_text("Weights")
    add_checkpoint(run, 12, whole=False)
    found = list_checkpoints(run)
    assert [(one.step, described(one)) for one in found] == [
        (12, "incomplete: the run was stopped while it wrote the checkpoint"),
        (9, "damaged: optimizer.pt has another content than when it was written"),
        (6, "whole"),
        (3, "not verified: rft 0.1 wrote it, without checksums"),
    ]
    assert found[3].num_bytes == len("weights") + len('{"step": 3}')
