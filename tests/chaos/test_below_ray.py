"""Cells without Ray: what happens to the processes of graders while they grade changes no reward."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from rft.grading import load_grader
from rft.grading.panel import Panel
from rft.types import Status
from tests.chaos.harness import INSIDE
from tests.grading.conftest import make_rollouts, make_task, stream

TEXTS = ["12", "1a", "ab", "7", "x", "44 4", "9b", ""]
SHARES = [1.0, 0.5, 0.0, 1.0, 0.0, 0.75, 0.5, 0.0]

CELLS = [
    ("kill", "grader worker"),
    ("exit", "grader worker"),
    ("segfault", "grader worker"),
    ("freeze", "grader worker"),
    ("slow", "grader worker"),
    ("kill", "fork server"),
    ("segfault", "fork server"),
]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the fault plan, which the processes of graders read."""
    monkeypatch.syspath_prepend(str(INSIDE))
    monkeypatch.setenv("RFT_FAULT_PLAN", str(tmp_path / "plan.json"))
    monkeypatch.setenv("RFT_FAULT_DRIVER", str(os.getpid()))
    yield tmp_path / "plan.json"
    for name in ("chaos_grader", "fault_plan", "lies", "strikes"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("kind", "target"), CELLS, ids=[f"{kind}-{target}" for kind, target in CELLS])
def test_no_reward_is_lost(plan: Path, tmp_path: Path, kind: str, target: str) -> None:
    state = tmp_path / "state"
    state.mkdir()
    fault = {"id": "one", "kind": kind, "target": target, "moment": "grading", "seconds": 0.3}
    plan.write_text(json.dumps({"state": str(state), "faults": [fault]}))
    entry = {"use": f"{INSIDE}/chaos_grader.py:digits", "timeout_s": 0.5 if kind == "freeze" else 60.0, "retries": 3}

    async def grade() -> list[tuple[float | None, Status]]:
        panel = Panel([load_grader("digits", entry)], num_workers=2, max_fault_share=1.0)
        try:
            [group] = await panel.grade([make_task()], stream(make_rollouts(TEXTS)), rollouts_per_task=len(TEXTS))
        finally:
            panel.close()
        return [(grade.reward, grade.scores["digits"].status) for grade in group.grades]

    assert asyncio.run(grade()) == [(share, Status.OK) for share in SHARES]
    assert (state / "struck-one").exists()
