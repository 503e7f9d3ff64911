"""`rft.pairs`: training rows from a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import rft
from rft.errors import ConfigError, UsageError
from rft.run_folder.recorder import Recorder
from rft.types import GradedGroup


def test_the_rows_of_a_run(
    tmp_path: Path, make_group: Callable[..., GradedGroup], capsys: pytest.CaptureFixture[str]
) -> None:
    group = make_group([0.0, 1.0, None])
    rollouts = tuple(replace(rollout, text=f"answer {rollout.index}") for rollout in group.rollouts)
    run, out = tmp_path / "run", tmp_path / "best.jsonl"
    run.mkdir()
    Recorder(run).rollouts([replace(group, rollouts=rollouts)], step=3, phase="train")
    written = rft.pairs({"run": run, "out": out, "rows": "demonstrations"})
    assert (written.file, written.counts.rows, written.counts.groups, written.damaged) == (out, 1, 1, ())
    assert dict(written.counts.completions_left_out) == {"without a reward (g: skipped)": 1}
    assert repr(written) == f"<rft.Pairs {out}: 1 demonstration of 1 prompt, from 1 group of completions>"
    (row,) = map(json.loads, out.read_text().splitlines())
    assert row["messages"][-1] == {"role": "assistant", "content": "answer 1"}
    assert capsys.readouterr().out.startswith("wrote 1 demonstration of 1 prompt, from 1 group of completions, to ")
    with pytest.raises(UsageError, match=r"best\.jsonl"):
        rft.pairs({"run": run, "out": out}, quiet=True)
    with pytest.raises(ConfigError, match="dry_run=true: in Python"):
        rft.pairs({"run": run, "out": tmp_path / "other.jsonl", "dry_run": True})
