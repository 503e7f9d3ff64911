"""`feasibility` of a run: it is judged before anything that a refused run would have paid for."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rft.errors import Infeasible
from rft.run.training import Training
from rft.run_folder.recorder import Recorder, read_metrics, read_rollouts

WORDS = ("feasibility.max_tasks=4", "feasibility.completions_per_task=2")


def phases_of(folder: Path) -> Counter[str]:
    return Counter(line["phase"] for line in read_rollouts(folder))


def test_a_refused_run_has_measured_nothing_else(training: Callable[..., Training], parts: Any, tmp_path: Path) -> None:
    grade = parts.grade

    async def never_right(*arguments: Any, **options: Any) -> Any:
        groups = await grade(*arguments, **options)
        wrong = [tuple(replace(one, reward=0.0) for one in group.grades) for group in groups]
        return [replace(group, grades=grades) for group, grades in zip(groups, wrong, strict=True)]

    parts.grade = never_right
    with pytest.raises(Infeasible, match="feasibility=refuse: the run is not worth starting"):
        asyncio.run(training(*WORDS, "feasibility=refuse").train())
    assert phases_of(tmp_path / "run") == {"feasibility": 4 * 2}
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["feasibility"]["verdict"] == "no-go"


@pytest.mark.parametrize("at", [1, 2, 3], ids=["first batch", "last batch", "before"])
def test_a_run_killed_while_it_is_judged_begins_again(
    training: Callable[..., Training], parts: Any, tmp_path: Path, at: int
) -> None:
    gradings = 0

    async def killed() -> None:
        nonlocal gradings
        gradings += 1
        if gradings == at:
            raise KeyboardInterrupt

    parts.grading = killed
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(training(*WORDS, "feasibility=warn").train())
    assert phases_of(tmp_path / "run") == ({"feasibility": 4 * 2} if at == 3 else {})
    again = Recorder.resume(tmp_path / "run", last_step=None)
    assert asyncio.run(training(*WORDS, "feasibility=warn", recorder=again).train()) == 0
    assert phases_of(tmp_path / "run") == {"feasibility": 8, "before": 1, "train": 12, "validation": 2, "after": 1}
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == [0, 1, 2, 3]
