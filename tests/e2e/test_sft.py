"""A run that learns from demonstrations, measured by the samplers like every other run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rft.models.adapter_folder import load_adapter
from rft.run_folder.recorder import read_losses, read_metrics, read_rollouts

pytestmark = pytest.mark.e2e

TASKS = Path(__file__).parents[2] / "rft" / "embedded" / "tasks" / "chain_sum"
WORDS = (
    "experiment=quickstart",
    "learner=sft",
    "sampler=transformers",
    "data.train=demonstrations.jsonl",
    "data.test=test.jsonl",
    "data.validation=validation.jsonl",
    "data.check_demonstrations=true",
    "loop.num_epochs=1",
    "loop.checkpoint_every_steps=2",
    "evaluation.every_steps=2",
    "logging=none",
)


def test_a_run_on_demonstrations(tmp_path: Path, rft_either_way: Callable[..., Any]) -> None:
    rows = [json.loads(line) for line in (TASKS / "train.jsonl").read_text().splitlines()[:32]]
    answers = [row["answer"] for row in rows]
    answers[5] = "wrong"
    (tmp_path / "demonstrations.jsonl").write_text(
        "".join(json.dumps(row | {"completion": text}) + "\n" for row, text in zip(rows, answers, strict=True))
    )
    for split in ("test", "validation"):
        held_out = [json.loads(line) for line in (TASKS / f"{split}.jsonl").read_text().splitlines()[:6]]
        (tmp_path / f"{split}.jsonl").write_text(
            "".join(json.dumps(row | {"completion": row["answer"]}) + "\n" for row in held_out)
        )
    done = rft_either_way("train", *WORDS, "output_dir=run", cwd=tmp_path)
    assert (done.code, done.orphans) == (0, [])
    assert "1 of 32 demonstrations score below" in done.output
    assert "demonstrations.jsonl:6 (" in done.output
    lines = read_metrics(done.folder)
    assert [line["policy"]["version"] for line in lines] == [0, 1, 2, 3, 4]
    assert all(line["metrics"]["learner/loss"] > 0 for line in lines[1:])
    # Each validation task contains its answer, so the run measures the loss on it, too.
    assert ["eval/loss" in line["metrics"] for line in lines[1:]] == [False, True, False, True]
    assert {step: len(by_task) for step, by_task in read_losses(done.folder).items()} == {2: 6, 4: 6}
    config = yaml.safe_load((done.folder / "config.yaml").read_text())["loop"]
    assert (config["steps"], config["num_epochs"]) == (4, None)
    # Samplers load and prove the policies that are measured, and no others.
    assert [line["metrics"].get("sync/proved") for line in lines[1:]] == [None, 1.0, None, 1.0]
    counts: dict[str, int] = {}
    for line in read_rollouts(done.folder):
        counts[line["phase"]] = counts.get(line["phase"], 0) + 1
    assert counts == {"demonstrations": 32, "before": 6, "validation": 12, "after": 6}
    assert load_adapter(done.folder).policy.fingerprint == lines[-1]["policy"]["fingerprint"]
    assert (done.summary["syncs"], done.summary["syncs_proved"]) == (2, 2)
    card = (done.folder / "adapter" / "README.md").read_text()
    assert "trained by supervised fine-tuning on demonstrations" in card
