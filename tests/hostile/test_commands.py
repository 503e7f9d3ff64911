"""Whole commands on hostile files: `rft check` does what `rft train` does before anything starts."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hypothesis")
pytest.importorskip("transformers")
from hypothesis import example, given
from hypothesis import strategies as st

from rft.commands.check import check
from rft.commands.guard import guarded

from .harness import as_json, cases, harmless, mutated
from .test_data import KEYS, ROWS

GRADER = Path(__file__).with_name("exact_grader.py")
WORDS = [
    "experiment=quickstart",
    "sampler=fake",
    "learner=fake",
    "data.train=tasks.jsonl",
    "data.validation=null",
    "data.test=null",
    "evaluation.every_steps=null",
    "loop.prompts_per_step=1",
    "audit=off",
    "~graders.correct",
    f"graders.g.use='{GRADER}:grade'",
    "output_dir=run",
]
CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": 2}}}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
CHAT = {
    "messages": [
        {"role": "user", "content": "2 + 2 = ?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "4", "tool_call_id": "1", "name": "add"},
    ],
    "tools": TOOLS,
}


@cases(3, in_fuzz=200)
@example(rows=[CHAT])
@given(rows=st.lists(mutated([*ROWS, CHAT], [*KEYS, "tools", "tool_calls", "name"]), min_size=1, max_size=2))
def test_task_files_up_to_the_plan(rows: list[Any]) -> None:
    Path("tasks.jsonl").write_bytes(b"\n".join(map(as_json, rows)))
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with harmless(), redirect_stdout(printed), redirect_stderr(printed):
        code = guarded(check, WORDS)
    printed.seek(0)
    output = printed.read()
    assert code in (0, 2)
    assert ("rft: " in output) is (code == 2)
