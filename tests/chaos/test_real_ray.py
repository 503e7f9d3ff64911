"""A run that is struck six times, on a real Ray with real engines and learners, ends like a run that nobody struck.

The faults are cells of `tests/chaos/cells.py`. They strike one run in turn, because each start takes most of the time.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.chaos.cells import Cell
from tests.chaos.harness import Undisturbed, train, words_of
from tests.chaos.oracle import differences, read

pytestmark = pytest.mark.e2e

FAULTS = (
    (1, Cell("kill", "sampler", "sampling")),
    (1, Cell("kill", "grader worker", "grading")),
    (2, Cell("lying weights", "sampler", "loading")),
    (3, Cell("kill", "learner", "learning")),
    (4, Cell("kill", "raylet", "learning")),
    (5, Cell("kill", "driver", "checkpointing")),
)
"""The faults, and the step after which each strikes. The last two end the command, and the next command continues."""
WORDS = words_of(FAULTS[0][1])


def test_a_run_that_is_struck_again_and_again_ends_with_the_same_result(tmp_path: Path) -> None:
    faults: list[dict[str, object]] = [
        {"id": cell.name, "kind": cell.kind, "target": cell.target, "moment": cell.moment, "step": step}
        for step, cell in FAULTS
    ]
    outcome = train(WORDS, tmp_path / "struck", faults)
    print(*(f"{attempt.wall_s:.1f} s\n{attempt.output}" for attempt in outcome.attempts), sep="\n")
    assert set(outcome.struck) == {cell.name for _, cell in FAULTS}
    ends = [cell for _, cell in FAULTS if cell.ending == "resumes"]
    assert [(attempt.code,) for attempt in outcome.attempts] == [*(cell.exit_codes for cell in ends), (0,)]
    assert all(re.search(cell.message, attempt.output) for cell, attempt in zip(ends, outcome.attempts, strict=False))
    assert [attempt.leftovers for attempt in outcome.attempts] == [(), (), ()]
    assert differences(outcome.run, Undisturbed(tmp_path).run(WORDS)) == []
    restarts = read(outcome.run).restarts
    assert (restarts["recovery/sampler_restarts"], restarts["recovery/learner_restarts"]) == (2, 1)
