"""A run whose policy calls a tool: exact tokens, and faults of the tool."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rft.run_folder.recorder import read_metrics, read_rollouts

pytestmark = pytest.mark.e2e

TASKS = Path(__file__).parents[2] / "rft" / "embedded" / "tasks" / "long_sum" / "train.jsonl"
TOOLS = '''
from pathlib import Path

def calc(expression: str) -> int:
    """Compute a sum.

    Args:
        expression: Whole numbers with + and - between them.
    """
    with open("calls", "a") as file:
        file.write("x")
    if Path("ends").exists() and Path("calls").stat().st_size > int(Path("ends").read_text()):
        raise ConnectionError("the calculator is down")
    return sum(int(word) for word in expression.replace("-", "+ -").replace("- ", "-").split("+"))
'''
WORDS = (
    "model.path=embedded:agent",
    "tools.calc.use=my_tools.py:calc",
    "graders.correct.use=numeric",
    "data.train=tasks.jsonl",
    "sampler=transformers",
    "sampler.max_completion_tokens=48",
    "learner=grpo",
    "loop.steps=2",
    "loop.prompts_per_step=4",
    "loop.completions_per_prompt=4",
    "loop.checkpoint_every_steps=1",
    "grading.fault_window_completions=16",
    "logging=none",
    "audit=off",
)


def test_a_run_with_a_tool(tmp_path: Path, rft_either_way: Callable[..., Any]) -> None:
    (tmp_path / "tasks.jsonl").write_text("".join(TASKS.read_text().splitlines(keepends=True)[:8]))
    (tmp_path / "my_tools.py").write_text(TOOLS)
    done = rft_either_way("train", *WORDS, "output_dir=run", cwd=tmp_path)
    assert (done.code, done.orphans) == (0, [])
    lines = read_metrics(done.folder)[1:]
    assert [line["metrics"]["sync/proved"] for line in lines] == [1.0] * 2
    # float32 on both sides: a wrong token, mask or position would be off by whole units.
    assert max(line["metrics"]["learner/sampling/sampling_logp_difference/max"] for line in lines) < 1e-3
    assert sum(line["metrics"].get("episode/calls_mean", 0.0) for line in lines) > 0
    called = [rollout for rollout in read_rollouts(done.folder) if len(rollout["turns"]) == 3]
    assert {rollout["step"] for rollout in called} == {1, 2}
    for rollout in called:
        call, result, answer = (turn["messages"][0] for turn in rollout["turns"])
        [function] = [each["function"] for each in call["tool_calls"]]
        assert json.loads(function["arguments"])["expression"].strip()
        assert result["role"] == "tool" and result["name"] == "calc"
        assert rollout["reward"] in (0.0, 1.0)
        assert answer["content"] == rollout["completion"]
    # With a calculator that works, most answers that copy its result are right.
    assert sum(rollout["reward"] for rollout in called) >= 0.5 * len(called) > 0

    # A tool that fails in the second step has no reward, and ends the run.
    (tmp_path / "ends").write_text(str(sum(rollout["step"] == 1 for rollout in called)))
    (tmp_path / "calls").write_text("")
    failed = rft_either_way("train", *WORDS, "output_dir=failed", "grading.max_fault_share=0.0", cwd=tmp_path)
    assert failed.code == 1
    assert "tool calc: ConnectionError: the calculator is down" in failed.output
