"""A run whose policy calls a tool: exact tokens, faults of the tool, and a kill in the middle of episodes."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rft.run_folder.find_checkpoint import last_checkpoint
from rft.run_folder.recorder import read_metrics, read_rollouts

pytestmark = pytest.mark.e2e

TASKS = Path(__file__).parents[2] / "rft" / "embedded" / "tasks" / "long_sum" / "train.jsonl"
TOOLS = '''
import os
import signal
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
    if Path("kills").exists() and Path("calls").stat().st_size > int(Path("kills").read_text()):
        os.kill(os.getppid(), signal.SIGKILL)
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


Rft = Callable[..., Any]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, rft_either_way: Rft) -> Any:
    """A run that ended in peace."""
    return rft_either_way("train", *WORDS, "output_dir=run", cwd=filled(tmp_path_factory.mktemp("done")))


def filled(folder: Path) -> Path:
    """A folder with the tasks and the tool."""
    (folder / "tasks.jsonl").write_text("".join(TASKS.read_text().splitlines(keepends=True)[:8]))
    (folder / "my_tools.py").write_text(TOOLS)
    return folder


def with_call(run: Path) -> list[dict[str, Any]]:
    """The rollouts of a run with one call of the tool."""
    return [rollout for rollout in read_rollouts(run) if len(rollout["turns"]) == 3]


def results(run: Path) -> list[Any]:
    """The adapter, the fingerprint of each policy, and the episodes with their rewards."""
    keys = ("phase", "step", "task_id", "index", "turns", "completion", "stop", "reward")
    episodes = [json.dumps([rollout[key] for key in keys]) for rollout in read_rollouts(run)]
    adapter = hashlib.sha256((run / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()
    return [adapter, *(line["policy"] for line in read_metrics(run)), *sorted(episodes)]


def test_a_run_with_a_tool(done: Any) -> None:
    assert (done.code, done.orphans) == (0, [])
    lines = read_metrics(done.folder)[1:]
    assert [line["metrics"]["sync/proved"] for line in lines] == [1.0] * 2
    # float32 on both sides: a wrong token, mask or position would be off by whole units.
    assert max(line["metrics"]["learner/sampling/sampling_logp_difference/max"] for line in lines) < 1e-3
    assert sum(line["metrics"].get("episode/calls_mean", 0.0) for line in lines) > 0
    called = with_call(done.folder)
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


def num_calls_of_first_step(done: Any) -> str:
    return str(sum(rollout["step"] == 1 for rollout in with_call(done.folder)))


def test_a_tool_that_fails_in_the_second_step_ends_the_run(done: Any, tmp_path: Path, rft_either_way: Rft) -> None:
    (filled(tmp_path) / "ends").write_text(num_calls_of_first_step(done))
    failed = rft_either_way("train", *WORDS, "output_dir=failed", "grading.max_fault_share=0.0", cwd=tmp_path)
    assert failed.code == 1
    assert "tool calc: ConnectionError: the calculator is down" in failed.output


def test_a_run_that_is_killed_during_a_call_ends_with_the_same_weights(
    done: Any, tmp_path: Path, rft_either_way: Rft, killed_either_way: Rft
) -> None:
    (filled(tmp_path) / "kills").write_text(num_calls_of_first_step(done))
    code = killed_either_way("train", *WORDS, "output_dir=killed", cwd=tmp_path)
    assert code == -signal.SIGKILL
    assert last_checkpoint(tmp_path / "killed") is not None
    assert {rollout["step"] for rollout in read_rollouts(tmp_path / "killed")} == {1}
    (tmp_path / "kills").unlink()
    assert rft_either_way("train", "resume=killed", cwd=tmp_path, output_dir="killed").code == 0
    assert results(tmp_path / "killed") == results(done.folder)
