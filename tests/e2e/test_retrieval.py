"""Runs with passages: in prompts, killed and resumed without the store; and found by a tool, and graded again."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rft.api.grade import grade
from rft.api.index import make_index
from rft.config.index import IndexBuildConfig
from rft.run_folder.find_checkpoint import last_checkpoint
from rft.run_folder.recorder import read_metrics, read_rollouts
from tests.killed_program import run_killed

pytestmark = [pytest.mark.e2e, pytest.mark.full]

GRADER = """
def share(completion, task):
    shown = "".join(passage["text"] for passage in task.item["passages"])
    return len(set(completion) & set(shown or task.messages[-1]["content"])) / 24

def found(completion, task):
    return float(task.item["answer"] in [passage["id"] for passage in task.item.get("passages", ())])
"""
WORDS = (
    "model.path=embedded:tiny",
    "retrieval=local",
    "retrieval.index=index",
    "retrieval.top_k=1",
    "data.train=tasks.jsonl",
    "data.test=test.jsonl",
    "evaluation.arms=true",
    "graders.share.use=grader.py:share",
    "grading.num_workers=1",
    "sampler=transformers",
    "sampler.max_completion_tokens=12",
    "learner=grpo",
    "learner.num_threads=1",
    "loop.steps=3",
    "loop.prompts_per_step=4",
    "loop.completions_per_prompt=4",
    "loop.checkpoint_every_steps=1",
    "logging=none",
    "audit=off",
)


def filled(folder: Path) -> Path:
    """A folder with tasks, a grader and an index."""
    for name, numbers in (("tasks", range(20, 28)), ("test", range(28, 32))):
        (folder / f"{name}.jsonl").write_text("".join(f'{{"prompt": "{n} + {n + 1} ="}}\n' for n in numbers))
    (folder / "docs.jsonl").write_text(
        "".join(f'{{"text": "{n} and {n + 1} is {2 * n + 1}"}}\n' for n in range(20, 32))
    )
    (folder / "grader.py").write_text(GRADER)
    make_index(IndexBuildConfig(documents=str(folder / "docs.jsonl"), out=str(folder / "index")))
    return folder


def results(run: Path) -> list[Any]:
    """The adapter, the policies, the passages, and what was sampled and paid under them."""
    keys = ("step", "task_id", "index", "messages", "item", "completion", "reward")
    sampled = sorted(repr([rollout[key] for key in keys]) for rollout in read_rollouts(run))
    adapter = (run / "adapter" / "adapter_model.safetensors").read_bytes()
    return [adapter, (run / "passages.jsonl").read_text(), sampled, [line["policy"] for line in read_metrics(run)]]


def test_a_run_with_passages_is_killed_and_resumes_without_its_store(
    tmp_path: Path, rft_in_process: Callable[..., Any]
) -> None:
    for name in ("undisturbed", "disturbed"):
        (tmp_path / name).mkdir()
    undisturbed = rft_in_process("train", *WORDS, "output_dir=run", cwd=filled(tmp_path / "undisturbed"))
    assert undisturbed.code == 0
    assert 0 < undisturbed.summary["retrieval"]["share"] < 0.5

    folder = filled(tmp_path / "disturbed")
    assert run_killed("train", *WORDS, "output_dir=run", cwd=folder, pattern="step 2/3") == -signal.SIGKILL
    assert last_checkpoint(folder / "run")[1] in (1, 2)
    shutil.rmtree(folder / "index")
    resumed = rft_in_process("train", "resume=run", cwd=folder)
    assert resumed.code == 0
    assert "the store cannot be compared with that of the start" in resumed.output
    assert results(folder / "run") == results(undisturbed.folder)
    assert resumed.summary["arms"] == undisturbed.summary["arms"]
    assert list(resumed.summary["arms"]["means"]) == ["base", "base + retrieval", "tuned", "tuned + retrieval"]


SEARCHES = (
    "model.path=embedded:agent",
    "tools.calc.documents=answers.jsonl",  # the embedded model knows a tool of this name alone
    "tools.calc.top_k=1",
    "data.train=sums.jsonl",
    "graders.found.use=grader.py:found",
    "sampler=transformers",
    "sampler.max_completion_tokens=48",
    "learner=grpo",
    "loop.steps=1",
    "loop.prompts_per_step=4",
    "loop.completions_per_prompt=4",
    "logging=none",
    "audit=off",
)


def test_a_policy_searches_and_its_episodes_are_graded_again_without_the_store(
    tmp_path: Path, rft_in_process: Callable[..., Any]
) -> None:
    sums = {f"{n} + {n + 1} + {n + 2}": str(3 * n + 3) for n in (465, 523, 718, 804)}
    asked = "State the final answer to the following arithmetic problem:"
    rows = [{"prompt": f"{asked} {text} =", "answer": answer} for text, answer in sums.items()]
    answers = [{"id": answer, "text": f"{text} = {answer}"} for text, answer in sums.items()]
    for name, lines in (("sums", rows), ("answers", answers)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "grader.py").write_text(GRADER)
    done = rft_in_process("train", *SEARCHES, "output_dir=run", cwd=tmp_path)
    assert done.code == 0
    (line,) = [line["metrics"] for line in read_metrics(done.folder) if line["step"] == 1]
    # A wrong mask or token would be off by whole units.
    assert line["learner/sampling/sampling_logp_difference/max"] < 1e-3
    rewards = [each["reward"] for each in read_rollouts(done.folder)]
    assert set(rewards) == {0.0, 1.0}, "some episodes search, and find the answer"

    (tmp_path / "answers.jsonl").unlink()
    found = {"use": f"{tmp_path}/grader.py:found"}
    words = {"data": str(done.folder), "graders": {"found": found}, "output_dir": str(tmp_path / "again")}
    assert [each["reward"] for each in grade(words, quiet=True).scores] == rewards
