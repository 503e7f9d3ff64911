"""A pipeline of real stages whose process is killed, and started again, ends with the same adapters, bit for bit.

The learners and the engine of Transformers are real. Without the mark `full`, they run in one process, without Ray.
"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from rft.run_folder.recorder import read_metrics
from tests.killed_program import run_killed

from .test_runner import record_of

pytestmark = pytest.mark.e2e

WORDS = (
    "experiment=quickstart",
    "sampler=transformers",
    "sampler.max_completion_tokens=12",
    "loop.steps=3",
    "loop.prompts_per_step=2",
    "loop.completions_per_prompt=4",
    "loop.checkpoint_every_steps=1",
    "learner.num_threads=1",
    "data.train=embedded:chain_sum/demonstrations",
    "data.validation=null",
    "data.test=null",
    "evaluation.every_steps=null",
    "logging=none",
    "audit=off",
    "~graders.correct",
    "graders.digits.use=digits.py:digits",
    "stages.sft.learner=sft",
    "stages.grpo.learner=grpo",
    "output_dir=pipeline",
    "or_resume=true",
)
GRADER = 'def digits(completion):\n    return sum(character in "02468" for character in completion) / 12\n'
"""Rewards that differ within a group from the first step on."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a pipeline that nobody kills."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert _run(folder) == 0
    return folder / "pipeline"


def _run(folder: Path) -> int:
    from tests.fake_ray import run_command

    (folder / "digits.py").write_text(GRADER)
    return run_command("pipeline", *WORDS, cwd=folder)[0]


def _run_killed(folder: Path, pattern: str, how: str) -> int:
    (folder / "digits.py").write_text(GRADER)
    return run_killed("pipeline", *WORDS, cwd=folder, pattern=pattern, how=how)


def _result_of(folder: Path) -> list[Any]:
    """The adapter of each stage, and the fingerprint of each policy."""
    stages = [folder / "01-sft", folder / "02-grpo"]
    adapters = [(stage / "adapter" / "adapter_model.safetensors").read_bytes() for stage in stages]
    return [*adapters, *([line["policy"] for line in read_metrics(stage)] for stage in stages)]


@pytest.mark.parametrize(
    ("pattern", "how"),
    [
        pytest.param("stage 1 of 2.*step 1/3", "one-process", marks=pytest.mark.full),
        pytest.param("stage 1 of 2.*step 3/3", "one-process", marks=pytest.mark.full),
        pytest.param("stage 2 of 2", "one-process", marks=pytest.mark.full),
        pytest.param("stage 2 of 2.*step 2/3", "one-process", marks=pytest.mark.full),
        pytest.param("stage 2 of 2.*step 3/3", "one-process", marks=pytest.mark.full),
        pytest.param("stage 2 of 2.*step 2/3", "processes", marks=pytest.mark.full),
    ],
)
def test_a_killed_pipeline_ends_with_the_same_adapters(
    undisturbed: Path, tmp_path: Path, pattern: str, how: str
) -> None:
    folder = tmp_path / "pipeline"
    if "step 2/3" in pattern:  # the first stage is not repeated
        shutil.copytree(undisturbed / "01-sft", folder / "01-sft")
    assert _run_killed(tmp_path, pattern, how) == -signal.SIGKILL
    assert record_of(folder)["status"] == "unfinished"
    assert _run(tmp_path) == 0
    assert record_of(folder)["status"] == "finished"
    assert _result_of(folder) == _result_of(undisturbed)
    assert len({line["policy"]["fingerprint"] for line in read_metrics(folder / "02-grpo")}) == 4
