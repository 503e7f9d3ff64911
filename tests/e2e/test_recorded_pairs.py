"""A run that learns from recorded pairs, measured by the samplers like every other run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rft.models.adapter_folder import load_adapter
from rft.run_folder.recorder import read_metrics
from tests.fake_ray import run_command

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


def test_a_run_on_labelled_completions(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (TASKS / "train.jsonl").read_text().splitlines()[:8]]
    labelled = [
        row | {"completion": row["answer"] if number % 2 else f"{row['answer']}0", "label": bool(number % 2)}
        for number, row in enumerate(rows)
    ]
    (tmp_path / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labelled))
    code, output = run_command(
        "train",
        *("experiment=quickstart", "learner=kto", "learner.completions=recorded", "logging=none"),
        *("data.train=labelled.jsonl", "data.test=null", "data.validation=null", "~graders.correct"),
        *("loop.prompts_per_step=8", "loop.steps=3", "learner.learning_rate=1e-3", "output_dir=run"),
        cwd=tmp_path,
    )
    assert code == 0, output
    lines = [line["metrics"] for line in read_metrics(tmp_path / "run")[1:]]
    assert [line["labelled/completions"] for line in lines] == [8.0, 8.0, 8.0]
    assert [line["learner/kto/desirable"] for line in lines] == [4.0, 4.0, 4.0]
    gaps = [line["learner/kto/desirable_log_ratio"] - line["learner/kto/undesirable_log_ratio"] for line in lines]
    assert gaps[0] == pytest.approx(0.0, abs=1e-6)
    assert gaps[2] > gaps[0]
    card = (tmp_path / "run" / "adapter" / "README.md").read_text()
    assert "trained by preference optimization (KTO) on recorded completions" in card
