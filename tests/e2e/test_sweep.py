"""A grid of two on a shared fleet, started as a user starts it: real vLLM, real learners."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rft.recorder import read_metrics, read_rollouts

pytestmark = pytest.mark.e2e

RFT = Path(sys.executable).with_name("rft")
TASKS = Path(__file__).parents[2] / "rft" / "embedded" / "tasks" / "chain_sum"
DEADLINE_S = 300
SMALL = (
    "experiment=quickstart",
    "loop.steps=3",
    "loop.prompts_per_step=4",
    "loop.completions_per_prompt=4",
    "learner.completions_per_micro_batch=16",
    "data.test=test.jsonl",
    "data.validation=validation.jsonl",
    "evaluation.every_steps=2",
    "logging=none",
)


def rft(*words: str, cwd: Path) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [RFT, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    print(done.stdout, done.stderr)  # pytest shows it when the test fails
    assert done.returncode == 0
    return done.stdout


def test_two_trials_share_a_fleet_and_do_what_each_would_do_alone(tmp_path: Path) -> None:
    for name, number in (("test", 12), ("validation", 6)):
        lines = (TASKS / f"{name}.jsonl").read_text().splitlines(keepends=True)[:number]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    printed = rft("train", "-m", *SMALL, "learner.lora.rank=4,16", "hydra.sweep.dir=sweep", cwd=tmp_path)
    rft("train", *SMALL, "learner.lora.rank=16", "output_dir=alone", cwd=tmp_path)

    assert "2 trials, 2 at a time" in printed
    sweep: dict[str, Any] = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert [trial["status"] for trial in sweep["trials"]] == ["finished", "finished"]
    runs = [tmp_path / "sweep" / number for number in ("0", "1")]
    ranks = [json.loads((run / "adapter" / "adapter_config.json").read_text())["r"] for run in runs]
    assert ranks == [4, 16]

    # Each sync was proved for the trial that it was of, and what it sampled then was its own.
    for run in runs:
        steps = read_metrics(run)[1:]
        assert [line["metrics"]["sync/proved"] for line in steps] == [1.0, 1.0, 1.0]
        served = {line["policy"]["version"]: line["policy"]["fingerprint"] for line in read_metrics(run)}
        for line in read_rollouts(run):
            assert served[line["policy"]["version"]] == line["policy"]["fingerprint"]
    fingerprints = [{line["policy"]["fingerprint"] for line in read_metrics(run)[1:]} for run in runs]
    assert not fingerprints[0] & fingerprints[1]

    # Alone it is given the same tasks, says the same before it is trained, and ends within noise.
    for phase in ("train", "before", "validation", "after"):
        assert asked(runs[1], phase) == asked(tmp_path / "alone", phase) != []
    assert said(runs[1], "before") == said(tmp_path / "alone", "before")
    alone = json.loads((tmp_path / "alone" / "summary.json").read_text())["eval"]["after"]
    shared = sweep["trials"][1]
    assert shared["ci95"][0] <= alone["ci95"][1] and alone["ci95"][0] <= shared["ci95"][1]


def asked(run: Path, phase: str) -> list[tuple[int, str, int]]:
    lines = read_rollouts(run, phase)  # type: ignore[arg-type]
    return sorted((line["policy"]["version"], line["task_id"], line["index"]) for line in lines)


def said(run: Path, phase: str) -> dict[tuple[str, int], str]:
    return {(line["task_id"], line["index"]): line["completion"] for line in read_rollouts(run, phase)}  # type: ignore[arg-type]
