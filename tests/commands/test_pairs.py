"""`rft pairs`: its output, and the problems of its configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rft.commands.pairs import pairs
from rft.errors import ConfigError
from rft.run_folder.recorder import Recorder
from rft.types import GradedGroup


def test_the_rows_of_a_run(
    tmp_path: Path, make_group: Callable[..., GradedGroup], capsys: pytest.CaptureFixture[str]
) -> None:
    group = make_group([0.0, 1.0, None])
    rollouts = tuple(replace(rollout, text=f"answer {rollout.index}") for rollout in group.rollouts)
    run, out = tmp_path / "run", tmp_path / "pairs.jsonl"
    run.mkdir()
    Recorder(run).rollouts([replace(group, rollouts=rollouts)], step=3, phase="train")
    assert pairs([f"run={run}", f"out={out}"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"wrote 1 preference pair of 1 prompt, from 1 group of completions, to {out}",
        "  chosen completions: 2.0 tokens on average",
        "  rejected completions: 2.0 tokens on average",
        "  left out: 1 completion without a reward (g: skipped)",
    ]
    (row,) = map(json.loads, out.read_text().splitlines())
    assert row["chosen"] == [{"role": "assistant", "content": "answer 1"}]
    assert row["recorded"] == {"task_id": "t", "step": 3, "chosen_reward": 1.0, "rejected_reward": 0.0}


def test_all_problems_of_the_configuration() -> None:
    with pytest.raises(ConfigError) as refused:
        pairs(["rows=demonstrations", "min_gap=0.5", "out=pairs.csv"])
    assert refused.value.problems == (
        "run is missing: the run folder to read, such as run=runs/quickstart/<time>",
        "out=pairs.csv: must end in .jsonl, the only format that rft pairs writes",
        "min_gap=0.5: demonstrations have no rejected completion; use min_reward, or leave it out",
    )
