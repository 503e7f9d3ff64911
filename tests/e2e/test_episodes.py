"""A run over episodes of two turns: the learner reads what the environment says, and trains on the policy's turns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rft.run_folder.completions import read_completions
from rft.run_folder.recorder import read_metrics, read_rollouts
from rft.types import StopReason

pytestmark = pytest.mark.e2e

TASKS = Path(__file__).parents[2] / "rft" / "embedded" / "tasks" / "chain_sum"
ENVIRONMENT = """
from pathlib import Path

async def twice(task, policy):
    first = await policy()
    with open("episodes", "a") as file:
        file.write("x")
    if Path("ends").exists() and Path("episodes").stat().st_size > 2 * 16:
        raise ConnectionError("gone from step 3 on")
    if task.item["answer"] == "broken":
        raise OSError("the server of the environment is down")
    second = await policy("now 1 + 1")
    return (len(first.text) + len(second.text)) % 2
"""
WORDS = (
    "experiment=quickstart",
    "environment.use=my_env.py:twice",
    "~graders.correct",
    "sampler=transformers",
    "sampler.max_completion_tokens=24",
    "data.train=tasks.jsonl",
    "data.test=null",
    "data.validation=null",
    "loop.steps=3",
    "loop.prompts_per_step=4",
    "loop.completions_per_prompt=4",
    "loop.checkpoint_every_steps=1",
    "grading.max_fault_share=0.5",
    "grading.fault_window_completions=16",
    "logging=none",
)


def test_a_run_over_episodes(tmp_path: Path, rft_either_way: Callable[..., Any]) -> None:
    rows = [json.loads(line) for line in (TASKS / "train.jsonl").read_text().splitlines()[:8]]
    rows[2]["answer"] = "broken"
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "my_env.py").write_text(ENVIRONMENT)
    done = rft_either_way("train", *WORDS, "output_dir=run", cwd=tmp_path)
    assert (done.code, done.orphans) == (0, [])
    lines = read_metrics(done.folder)[1:]
    assert [line["metrics"]["sync/proved"] for line in lines] == [1.0] * 3
    # float32 on both sides: a wrong token, mask or position would be off by whole units.
    assert max(line["metrics"]["learner/sampling/sampling_logp_difference/max"] for line in lines) < 1e-3
    rollouts = list(read_rollouts(done.folder))
    for rollout in rollouts:
        authors = [turn["author"] for turn in rollout["turns"]]
        if rollout["item"]["answer"] == "broken":
            assert (authors, rollout["reward"], rollout["stop"]) == (["policy"], None, "abort")
            assert "OSError: the server of the environment is down" in rollout["scores"]["environment"]["reason"]
        elif rollout["stop"] == StopReason.STOP:
            assert authors == ["policy", "environment", "policy"]
            assert rollout["reward"] in (0.0, 1.0)
    faults = sum(rollout["reward"] is None for rollout in rollouts)
    assert faults == 4 * len({rollout["step"] for rollout in rollouts if rollout["item"]["answer"] == "broken"}) > 0
    assert sum(line["drops"].get("environment: environment error", 0) for line in lines) == faults
    # Recorded episodes are read again, with their turns and the environment's score.
    [first, *_] = read_completions(str(done.folder), columns={}, phase=None)
    assert first.rollouts[0].turns and first.rollouts[0].environment is not None

    # An environment that fails ends the run; a resumed run ends with the same weights.
    (tmp_path / "episodes").write_text("")
    (tmp_path / "ends").write_text("")
    failed = rft_either_way("train", *WORDS, "output_dir=failed", cwd=tmp_path)
    assert failed.code == 1
    assert "grader 'environment'" in failed.output
    (tmp_path / "ends").unlink()
    resumed = rft_either_way("train", *WORDS, "output_dir=failed", "or_resume=true", cwd=tmp_path)
    assert resumed.code == 0
    assert read_metrics(tmp_path / "failed")[-1]["policy"] == lines[-1]["policy"]
