"""Sweeps whose trials differ in the way of fine-tuning: real learners, which share one engine where they can."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rft.run_folder.recorder import read_metrics

pytestmark = [pytest.mark.e2e, pytest.mark.full]

ONE_SET = "trials share samplers; sets of samplers, used in turn: 1"
WAYS = (
    (("learner=sft,raft,dpo,kto,grpo,ppo",), ONE_SET),
    (("learner.adapter=lora,dora,vera,ia3,full",), "own samplers: learner.adapter=dora is merged into the base model"),
    (("start=null,trained", "learner=sft,dpo"), ONE_SET),
)


@pytest.mark.parametrize(("ways", "explanation"), WAYS)
def test_trials_differ_in_the_way_of_fine_tuning(
    folder: Path,
    trained_either_way: Any,
    three_steps: tuple[str, ...],
    rft_in_process: Callable[..., Any],
    ways: tuple[str, ...],
    explanation: str,
) -> None:
    (folder / "trained").symlink_to(trained_either_way.folder)
    words = (
        *three_steps,
        *ways,
        "loop.steps=1",
        "learner.completions_per_micro_batch=null",
        "data.train=embedded:chain_sum/demonstrations",
        "evaluation.every_steps=null",
        "hydra.launcher.max_parallel_trials=1",  # trainers of one process would share Accelerate's state
        "hydra.sweep.dir=sweep",
    )
    done = rft_in_process("train", "-m", *words, cwd=folder)
    assert done.code == 0
    assert explanation in done.output
    sweep: dict[str, Any] = json.loads((folder / "sweep" / "sweep.json").read_text())
    assert {trial["status"] for trial in sweep["trials"]} == {"finished"}
    ends = set()
    for number in range(len(sweep["trials"])):
        before, step = read_metrics(folder / "sweep" / str(number))
        assert step["metrics"]["sync/proved"] == 1.0
        assert before["policy"]["fingerprint"] != step["policy"]["fingerprint"]
        ends.add(step["policy"]["fingerprint"])
    assert len(ends) > 1  # Adam's first step is the sign of the gradient, which two algorithms may share
