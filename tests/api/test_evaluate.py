"""`rft.evaluate`: what a measurement leaves behind that does not finish."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rft.api import evaluate
from rft.config.commands import load_evaluation
from rft.errors import SampleError


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments of a measurement of the embedded model on one task, without Ray."""
    monkeypatch.setattr(evaluate, "ray_ahead_for", lambda _: nullcontext())
    (tmp_path / "tasks.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n')
    return [
        "model.path=embedded:tiny",
        f"data.test={tmp_path / 'tasks.jsonl'}",
        "graders.correct.use=exact",
        "sampler=fake",
        f"output_dir={tmp_path / 'out'}",
    ]


async def receives_ctrl_c(*_: Any) -> None:
    signal.raise_signal(signal.SIGINT)
    await asyncio.Event().wait()


async def is_cancelled(*_: Any) -> None:
    raise asyncio.CancelledError


async def fails(*_: Any) -> None:
    raise SampleError("sampler 0 failed: out of memory")


@pytest.mark.parametrize(
    ("ending", "error", "status"),
    [
        (receives_ctrl_c, None, {"status": "interrupted"}),
        (is_cancelled, asyncio.CancelledError, {"status": "interrupted"}),
        (fails, SampleError, {"status": "failed", "error": "sampler 0 failed: out of memory"}),
    ],
)
def test_a_measurement_that_does_not_finish_leaves_a_summary(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: Any, error: Any, status: dict[str, str]
) -> None:
    monkeypatch.setattr(evaluate, "_measure", ending)
    config = load_evaluation(words)
    with pytest.raises(error) if error else nullcontext():
        assert evaluate.measure(config, Console(quiet=True)) == 130
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary.pop("wall_s") >= 0
    assert summary == status | {
        "model": "embedded:tiny",
        "adapter": None,
        "data": str(tmp_path / "tasks.jsonl"),
        "metric": "reward",
        "temperature": 1.0,
        "completions_per_task": config.evaluation.completions_per_task,
    }
    assert not (tmp_path / "out" / "rollouts.jsonl").exists()
