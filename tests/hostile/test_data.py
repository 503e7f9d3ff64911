"""Task files and recorded completions of strangers."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from rft.config.pairs import PairsConfig
from rft.data.demonstration_records import Preference
from rft.data.tasks import read_tasks
from rft.data.training_rows import READERS
from rft.run_folder.completions import read_completions
from rft.run_folder.pair_files import write_rows
from rft.types import Split

from .harness import as_json, cases, damaged, harmless, mutated, values

KEYS = [
    "prompt",
    "messages",
    "role",
    "content",
    "id",
    "answer",
    "completion",
    "chosen",
    "rejected",
    "input",
    "preferred_output",
    "item",
    "stop",
    "policy",
    "step",
    "split",
]
ROWS: list[Any] = [
    {"prompt": "2 + 2 = ?", "answer": "4"},
    {"id": 7, "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "?"}]},
]
LINES: list[Any] = [
    {"prompt": "2 + 2 = ?", "completion": "4", "answer": "4", "num_completion_tokens": 3},
    {
        "step": 1,
        "phase": "train",
        "task_id": "t",
        "split": "train",
        "messages": [{"role": "user", "content": "?"}],
        "item": {"answer": "4"},
        "index": 0,
        "completion": "4",
        "num_completion_tokens": 1,
        "stop": "stop",
        "policy": {"version": 0, "fingerprint": "f"},
        "scores": {},
        "reward": 1.0,
    },
]
PREFERENCES: list[Any] = [
    {"prompt": "2 + 2 = ?", "chosen": "4", "rejected": [{"role": "assistant", "content": "5"}]},
    {
        "input": {"messages": [{"role": "user", "content": "?"}], "tools": []},
        "preferred_output": [{"role": "assistant", "content": "4"}],
        "non_preferred_output": [{"role": "assistant", "content": "5"}],
    },
]
CSV = [b"prompt,answer\n2 + 2 = ?,4\n", b'prompt;answer\n"a";b\n', "prompt\tanswer\n\u2028\t4\n".encode()]


@cases(15, in_fuzz=900)
@given(
    rows=st.lists(mutated(ROWS, KEYS) | values(KEYS), min_size=1, max_size=4),
    columns=mutated([{}, {"prompt": "answer"}]),
)
def test_rows(rows: list[Any], columns: Any) -> None:
    Path("tasks.jsonl").write_bytes(b"\n".join(map(as_json, rows)))
    names = {str(ours): str(theirs) for ours, theirs in columns.items()} if isinstance(columns, dict) else {}
    with harmless():
        tasks = read_tasks("tasks.jsonl", key="data.train", split=Split.TRAIN, columns=names, system="Be brief.")
        assert all(task.id and task.messages for task in tasks)


@cases(15, in_fuzz=900)
@given(
    content=damaged([*CSV, b"\n".join(map(as_json, ROWS)), gzip.compress(as_json(ROWS[0]), mtime=0)]),
    suffix=st.sampled_from([".jsonl", ".csv", ".tsv", ".json", ".jsonl.gz", ".csv.gz"]),
)
def test_bytes(content: bytes, suffix: str) -> None:
    Path(f"tasks{suffix}").write_bytes(content)
    with harmless():
        read_tasks(f"tasks{suffix}", key="data.train", split=Split.TRAIN, columns={}, system=None)


@cases(15, in_fuzz=900)
@given(lines=st.lists(mutated(LINES, KEYS), min_size=1, max_size=4), phase=st.sampled_from([None, "train"]))
def test_recorded_completions(lines: list[Any], phase: Any) -> None:
    os.makedirs("run", exist_ok=True)
    Path("run", "rollouts.jsonl").write_bytes(b"".join(as_json(line) + b"\n" for line in lines))
    with harmless():
        groups = read_completions("run", columns={}, phase=phase)
        assert sum(len(group.rollouts) for group in groups) <= len(lines)


@cases(15, in_fuzz=900)
@given(rows=st.lists(mutated(PREFERENCES, KEYS) | values(KEYS), min_size=1, max_size=4))
def test_preferences(rows: list[Any]) -> None:
    Path("pairs.jsonl").write_bytes(b"\n".join(map(as_json, rows)))
    with harmless():
        preferences = READERS["preferences"](
            "pairs.jsonl", key="data.train", split=Split.TRAIN, columns={}, system=None
        )
        assert all(isinstance(one, Preference) and one.chat[-1] != one.rejected for one in preferences)


@cases(15, in_fuzz=900)
@given(
    lines=st.lists(mutated(LINES[1:], KEYS), min_size=1, max_size=4),
    rows=st.sampled_from(["preferences", "demonstrations"]),
)
def test_rows_of_recorded_completions(lines: list[Any], rows: Any) -> None:
    os.makedirs("run", exist_ok=True)
    Path("rows.jsonl").unlink(missing_ok=True)
    Path("run", "rollouts.jsonl").write_bytes(b"\n".join([*map(as_json, lines), b""]))
    with harmless():
        write_rows(PairsConfig(run="run", out="rows.jsonl", rows=rows, min_reward=0.0), str)
        assert READERS[rows]("rows.jsonl", key="data.train", split=Split.TRAIN, columns={}, system=None)
