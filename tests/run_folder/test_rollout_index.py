"""The index of rollouts: written beside the lines, completed by readers, made again where it does not belong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rft.evidence.viewer.rollout_store import RECORD, RolloutStore
from rft.run.inputs.grader_samples import as_rollout
from rft.run_folder.recorded_tokens import tokens_of
from rft.run_folder.recorder import Recorder, read_rollouts
from rft.run_folder.rollout_files import RolloutFiles
from rft.run_folder.rollout_index import INDEX, hashed, read_index
from rft.run_folder.run_lock import RunLock
from rft.types import GradedGroup

Group = Callable[..., GradedGroup]


def known_of(folder: Path) -> np.ndarray[Any, np.dtype[Any]]:
    content = read_index(folder / INDEX)
    assert content is not None
    return np.frombuffer(content, RECORD)


def stored(folder: Path) -> tuple[RolloutStore, list[str]]:
    told: list[str] = []
    store = RolloutStore(folder, told.append)
    store.refresh()
    return store, told


def lines(folder: Path) -> list[dict[str, object]]:
    return list(read_rollouts(folder))


def all_lines(store: RolloutStore) -> list[dict[str, object]]:
    return store.asked(lambda: store.lines(range(len(store.records))))


def record(folder: Path, group: GradedGroup, *steps: int, segment_bytes: int = 2**20) -> None:
    recorder = Recorder(folder)
    recorder._rollouts = RolloutFiles(folder, segment_bytes=segment_bytes)
    for step in steps:
        recorder.rollouts([group], step=step, phase="train")
    recorder.close()


@pytest.mark.parametrize("segment_bytes", [1, 1500, 2**20])
def test_the_recorder_indexes_what_it_writes(tmp_path: Path, make_group: Group, segment_bytes: int) -> None:
    record(tmp_path, make_group([1.0, None]), 1, 2, 3, segment_bytes=segment_bytes)
    known = known_of(tmp_path)
    assert known["step"].tolist() == [1, 1, 2, 2, 3, 3] and known["tokens"].tolist() == [2] * 6
    assert known["sample"].tolist() == [0, 1] * 3 and set(known["task"].tolist()) == {hashed("t")}
    assert known["reward"][0] == 1.0 and np.isnan(known["reward"][1])
    store, told = stored(tmp_path)
    assert all_lines(store) == lines(tmp_path) and told == []
    assert store.lines([4, 0]) == [lines(tmp_path)[4], lines(tmp_path)[0]]


def test_an_older_run_is_indexed_once(tmp_path: Path, make_group: Group) -> None:
    record(tmp_path, make_group([1.0, 0.0]), 1, 2, 3, segment_bytes=1500)
    written = (tmp_path / INDEX).read_bytes()
    (tmp_path / INDEX).unlink()
    stored(tmp_path)
    assert (tmp_path / INDEX).read_bytes() == written


def test_a_reader_adds_what_the_index_lacks(tmp_path: Path, make_group: Group) -> None:
    record(tmp_path, make_group([1.0]), 1, 2)
    index = tmp_path / INDEX
    index.write_bytes(index.read_bytes()[:-5])  # a crash within a record
    with (tmp_path / "rollouts.jsonl").open("a") as file:
        file.write('{"step": 3, "completion": "torn')
    store, _ = stored(tmp_path)
    assert [line["step"] for line in all_lines(store)] == [1, 2]
    with (tmp_path / "rollouts.jsonl").open("a") as file:  # the run goes on: the line is whole now
        file.write('"}\n')
    store.refresh()
    assert [line["step"] for line in all_lines(store)] == [1, 2, 3]


def test_an_index_of_other_rollouts_is_made_again(tmp_path: Path, make_group: Group) -> None:
    record(tmp_path, make_group([1.0]), 1, 2, 3)
    path = tmp_path / "rollouts.jsonl"
    first, second, third = path.read_text().splitlines(keepends=True)
    path.write_text(first.replace('"reward": 1.0', '"reward": 0.5') + second + third)
    store, told = stored(tmp_path)
    assert store.records["reward"].tolist() == [0.5, 1.0, 1.0]
    assert told == [f"{tmp_path / INDEX} does not belong to the rollouts; rft makes it again"]
    path.write_text(first + second.replace('"reward": 1.0', '"reward": 0.5') + third)  # noticed only where it is read
    assert [line["reward"] for line in all_lines(store)] == [1.0, 0.5, 1.0]


def test_a_resumed_run_continues_its_index(tmp_path: Path, make_group: Group) -> None:
    record(tmp_path, make_group([1.0, 0.0]), 1, 2, 3, segment_bytes=1500)
    Recorder.resume(tmp_path, last_step=2).rollouts([make_group([0.5])], step=3, phase="train")
    known = known_of(tmp_path)
    assert known["step"].tolist() == [1, 1, 2, 2, 3]
    store, told = stored(tmp_path)
    assert all_lines(store) == lines(tmp_path) and told == []


def test_a_run_that_starts_again_has_a_new_index(tmp_path: Path, make_group: Group) -> None:
    record(tmp_path, make_group([1.0]), 1, 2)
    Recorder.resume(tmp_path, last_step=None).rollouts([make_group([0.5])], step=1, phase="train")
    known = known_of(tmp_path)
    assert known["reward"].tolist() == [0.5]


def test_lines_hold_the_tokens_of_so_many_completions(tmp_path: Path, make_group: Group) -> None:
    recorder = Recorder(tmp_path, completions_with_tokens=2)
    groups = [make_group([1.0, 0.0], logprobs=(-0.5, -2000.0)), make_group([1.0])]
    recorder.rollouts(groups, step=1, phase="train", start_logprobs=[None, (-0.25, -2000.0)])
    first, second, third = map(tokens_of, lines(tmp_path))
    assert first is not None and first.ids == (7, 2) and first.logprobs == (-0.5, -1000.0)
    assert first.teacher_logprobs is first.start_logprobs is None
    assert second is not None and second.start_logprobs == (-0.25, -1000.0)
    assert third is None
    assert json.loads((tmp_path / "rollouts.jsonl").read_text().splitlines()[0])["tokens"] == {
        "ids": "BwAAAAIAAAA=",  # 7 and 2 in four bytes each
        "logprobs": "ALjQ4w==",  # -0.5 and -1000 in two
    }


def test_the_index_of_a_run_that_goes_on_is_left_alone(tmp_path: Path, make_group: Group) -> None:
    record(tmp_path, make_group([1.0]), 1)
    (tmp_path / INDEX).unlink()
    with RunLock(tmp_path):
        store, told = stored(tmp_path)
    assert len(store.records) == 1 and told == [] and not (tmp_path / INDEX).exists()
    (tmp_path / "run.lock").write_text("left behind by a process that was killed\n")
    stored(tmp_path)
    assert (tmp_path / INDEX).exists()


def test_a_completion_that_nobody_sampled_has_no_tokens(tmp_path: Path, make_group: Group) -> None:
    group = make_group([1.0])
    written = as_rollout(group.task, 0, "written")
    Recorder(tmp_path, completions_with_tokens=2).rollouts(
        [replace(group, rollouts=(written,))], step=0, phase="before"
    )
    (line,) = lines(tmp_path)
    assert (line["completion"], tokens_of(line)) == ("written", None)
