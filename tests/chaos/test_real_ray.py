"""Runs that are struck several times, on a real Ray, end like runs that nobody struck.

The faults are cells of `tests/chaos/cells.py`. They strike one run in turn, because each start takes most of the time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.chaos.cells import Cell
from tests.chaos.harness import SMALL, train, words_of
from tests.chaos.oracle import differences, read
from tests.fake_ray import run_command

pytestmark = pytest.mark.e2e

ONE_THREAD = ("sampler.num_threads=1", "learner.num_threads=1")
"""As in one process."""
PATIENT = ("sampler.stall_timeout_s=300", "learner.step_timeout_s=300", *ONE_THREAD)
"""No process freezes, so no deadline must expire."""
FAKES = {"engine": "fake", "learner": "fake"}
Faults = Sequence[tuple[int, Cell]]
"""Faults, and the step after which each strikes. Where one ends the command, the next command continues.

`make test` kills drivers elsewhere: tests/e2e/test_storage.py looks for what a killed driver leaves behind, and
tests/e2e/test_tools.py kills one between the steps of a real learner.
"""
TRAINED: Faults = (
    (1, Cell("kill", "sampler", "sampling")),
    (1, Cell("kill", "grader worker", "grading")),
    (2, Cell("kill", "learner", "learning")),
)
FAKED: Faults = (
    (1, Cell("lying weights", "sampler", "loading", **FAKES)),
    (2, Cell("kill", "raylet", "learning", **FAKES)),
)
ALL: Faults = (
    (1, Cell("kill", "sampler", "sampling")),
    (1, Cell("kill", "grader worker", "grading")),
    (2, Cell("lying weights", "sampler", "loading")),
    (3, Cell("kill", "learner", "learning")),
    (4, Cell("kill", "raylet", "learning")),
    (5, Cell("kill", "driver", "checkpointing")),
)


@pytest.mark.parametrize(
    ("faults", "restarts"),
    [
        pytest.param(TRAINED, (1, 1), id="trained"),
        pytest.param(FAKED, (1, 0), id="faked", marks=pytest.mark.full),
        pytest.param(ALL, (2, 1), id="all", marks=pytest.mark.full),
    ],
)
def test_a_run_that_is_struck_again_and_again_ends_with_the_same_result(
    tmp_path: Path, faults: Faults, restarts: tuple[int, int]
) -> None:
    words = (*words_of(faults[0][1]), *PATIENT, f"loop.steps={faults[-1][0] + 2}")
    plan: list[dict[str, object]] = [
        {"id": cell.name, "kind": cell.kind, "target": cell.target, "moment": cell.moment, "step": step}
        for step, cell in faults
    ]
    outcome = train(words, tmp_path / "struck", plan)
    print(*(f"{attempt.wall_s:.1f} s\n{attempt.output}" for attempt in outcome.attempts), sep="\n")
    assert set(outcome.struck) == {cell.name for _, cell in faults}
    ends = [cell for _, cell in faults if cell.ending == "resumes"]
    assert [(attempt.code,) for attempt in outcome.attempts] == [*(cell.exit_codes for cell in ends), (0,)]
    assert all(re.search(cell.message, attempt.output) for cell, attempt in zip(ends, outcome.attempts, strict=False))
    assert [attempt.leftovers for attempt in outcome.attempts] == [()] * (len(ends) + 1)
    assert run_command("train", *SMALL, *words, cwd=tmp_path)[0] == 0
    assert differences(outcome.run, tmp_path / "run") == []
    counts = read(outcome.run).restarts
    counted = tuple(counts.get(f"recovery/{part}_restarts", 0) for part in ("sampler", "learner"))
    assert counted == restarts
