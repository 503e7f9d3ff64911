"""A training run from its start to its end: what it leaves behind, however it ends."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rft.errors import LearnError
from rft.run.training import Training


def summary_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run" / "summary.json").read_text())
    return found


@pytest.mark.parametrize(("cancelled_in", "has_checkpoint"), [(1, False), (3, True)])
def test_a_cancelled_run_leaves_a_summary_and_says_how_to_continue(
    training: Callable[..., Training],
    parts: Any,
    printed: io.StringIO,
    tmp_path: Path,
    cancelled_in: int,
    has_checkpoint: bool,
) -> None:
    async def job() -> None:
        run = asyncio.create_task(training().guarded())
        parts.learning = lambda step: run.cancel() if step == cancelled_in else None
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(job())
    resume = f"rft train resume={tmp_path / 'run'}" if has_checkpoint else None
    summary = summary_of(tmp_path)
    assert (summary["status"], summary["steps"], summary["resume"]) == ("interrupted", cancelled_in - 1, resume)
    assert ("to go on: rft train resume=" in printed.getvalue()) == has_checkpoint
    assert parts.is_closed


def test_a_failed_run_leaves_a_summary_and_its_error_says_how_to_continue(
    training: Callable[..., Training], parts: Any, tmp_path: Path
) -> None:
    def fail(step: int) -> None:
        if step == 3:
            raise LearnError("no more")

    parts.learning = fail
    with pytest.raises(LearnError, match="no more") as caught:
        asyncio.run(training().guarded())
    resume = f"rft train resume={tmp_path / 'run'}"
    assert caught.value.__notes__ == [f"to go on from step 2: {resume}"]
    summary = summary_of(tmp_path)
    assert (summary["status"], summary["error"], summary["resume"]) == ("failed", "no more", resume)
    assert parts.is_closed
