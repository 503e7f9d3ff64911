"""Measurements with `rft evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rft.run_folder.recorder import read_rollouts

pytestmark = pytest.mark.e2e


def test_evaluate_finds_the_same_as_the_run(trained_either_way: Any, rft_either_way: Callable[..., Any]) -> None:
    trained = trained_either_way
    measured = rft_either_way(
        "evaluate",
        *(f"adapter={trained.folder}", "graders.correct.use=reasoning_gym", "data.test=test.jsonl"),
        *("evaluation.completions_per_task=2", "output_dir=evaluated"),
        cwd=trained.folder.parent,
        output_dir="evaluated",
    )
    assert "sampler.max_completion_tokens=48" in measured.output  # taken from the run
    assert (measured.code, measured.orphans) == (0, [])
    in_run, again = (
        {(line["task_id"], line["index"]): line["completion"] for line in read_rollouts(folder, phase)}
        for folder, phase in ((trained.folder, "after"), (measured.folder, "test"))
    )
    assert in_run.keys() == again.keys() != set()
    # The same seeds. In batches of other shapes the rounding is another: a sampled token in 10,000 may differ.
    num_different = sum(again[place] != completion for place, completion in in_run.items())
    assert num_different <= 1
    assert abs(measured.summary["mean"] - trained.summary["eval"]["after"]["mean"]) <= num_different / len(in_run)
