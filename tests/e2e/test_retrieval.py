"""A run with passages in its prompts is killed, and ends with the same passages and adapter, without its store."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rft.api.index import make_index
from rft.config.index import IndexBuildConfig
from rft.run_folder.find_checkpoint import last_checkpoint
from rft.run_folder.recorder import read_metrics, read_rollouts
from tests.killed_program import run_killed

pytestmark = [pytest.mark.e2e, pytest.mark.full]

GRADER = """
import os
import signal
from pathlib import Path

def share(completion, task):
    with open("calls", "a") as file:
        file.write("x")
    if Path("kills").exists() and Path("calls").stat().st_size > 20:
        os.kill(os.getppid(), signal.SIGKILL)
    (passage,) = task.item["passages"]
    return len(set(completion) & set(passage["text"])) / 12
"""
WORDS = (
    "model.path=embedded:tiny",
    "retrieval=local",
    "retrieval.index=index",
    "retrieval.top_k=1",
    "data.train=tasks.jsonl",
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
    (folder / "tasks.jsonl").write_text("".join(f'{{"prompt": "{n} + {n + 1} ="}}\n' for n in range(20, 28)))
    (folder / "docs.jsonl").write_text(
        "".join(f'{{"text": "{n} and {n + 1} is {2 * n + 1}"}}\n' for n in range(20, 28))
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
    (folder / "kills").touch()
    assert run_killed("train", *WORDS, "output_dir=run", cwd=folder) == -signal.SIGKILL
    assert last_checkpoint(folder / "run")[1] == 1
    (folder / "kills").unlink()
    shutil.rmtree(folder / "index")
    resumed = rft_in_process("train", "resume=run", cwd=folder)
    assert resumed.code == 0
    assert "the store cannot be compared with that of the start" in resumed.output
    assert results(folder / "run") == results(undisturbed.folder)
