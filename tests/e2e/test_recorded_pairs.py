"""A run that learns from recorded pairs, measured by the samplers like every other run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rft.models.adapter_folder import load_adapter
from rft.run_folder.recorder import read_metrics

pytestmark = pytest.mark.e2e

TASKS = Path(__file__).parents[2] / "rft" / "embedded" / "tasks" / "chain_sum"


def test_a_run_on_recorded_pairs(tmp_path: Path, rft_either_way: Callable[..., Any]) -> None:
    rows = [json.loads(line) for line in (TASKS / "train.jsonl").read_text().splitlines()[:8]]
    pairs = [row | {"chosen": row["answer"], "rejected": f"{row['answer']}0"} for row in rows]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    (tmp_path / "test.jsonl").write_text("".join((TASKS / "test.jsonl").read_text().splitlines(keepends=True)[:4]))
    done = rft_either_way(
        "train",
        *("experiment=quickstart", "learner=dpo", "learner.pairs=recorded", "sampler=transformers", "logging=none"),
        *("data.train=pairs.jsonl", "data.test=test.jsonl", "loop.prompts_per_step=4", "loop.steps=3"),
        "output_dir=run",
        cwd=tmp_path,
    )
    assert (done.code, done.orphans) == (0, [])
    lines = read_metrics(done.folder)
    assert [line["metrics"].get("preferences/pairs") for line in lines] == [None, 4.0, 4.0, 4.0]
    margins = [line["metrics"]["learner/dpo/margin"] for line in lines[1:]]
    assert margins[0] == pytest.approx(0.0, abs=1e-6)
    assert margins[2] > margins[0]
    assert done.summary["pairs"]["learned_from"] == 12
    assert load_adapter(done.folder).policy.fingerprint == lines[-1]["policy"]["fingerprint"]
    card = (done.folder / "adapter" / "README.md").read_text()
    assert "trained by preference optimization (DPO) on recorded pairs" in card
