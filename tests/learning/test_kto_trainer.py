"""KTO on graded and on recorded completions: the steps are those of TRL's own trainer with the same divergence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rft.data.preference_rows import RECORDED
from rft.types import GradedGroup
from tests.learning.trl_options import LORA, OPTIONS

pytestmark = pytest.mark.e2e  # real libraries: too slow for a unit test

COMPLETIONS = [
    ((10, 11, 12), (20, 21, 2), 1.0),
    ((10, 13), (30, 31, 32, 33, 2), 0.0),
    ((10, 14, 15, 16), (40, 2), 0.25),
    ((10, 17), (50, 51, 52, 2), 0.5),
]
"""Prompt, completion and reward."""


def steps_of_trl(model: Path, folder: Path, *, num_steps: int, shift: int) -> list[dict[str, float]]:
    """The metrics of TRL's KTOTrainer, which estimates the divergence from the completions `shift` rows before."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import KTOConfig, KTOTrainer

    class OnTokens(KTOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    others = [COMPLETIONS[number - shift] for number in range(len(COMPLETIONS))]
    columns = {
        "prompt_ids": [list(prompt) for prompt, _, _ in COMPLETIONS],
        "completion_ids": [list(completion) for _, completion, _ in COMPLETIONS],
        "KL_completion_ids": [list(completion) for _, completion, _ in others],
        "label": [reward >= 0.5 for _, _, reward in COMPLETIONS],
    }
    trainer = OnTokens(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        args=KTOConfig(
            output_dir=str(folder),
            max_steps=num_steps,
            per_device_train_batch_size=len(COMPLETIONS),
            beta=0.3,
            desirable_weight=1.5,
            lr_scheduler_type="constant",
            train_sampling_strategy="sequential",
            **OPTIONS,
        ),
        processing_class=AutoTokenizer.from_pretrained(model),
        train_dataset=Dataset.from_dict(columns),
        peft_config=LoraConfig(**LORA),
    )
    trainer.train()
    return [line for line in trainer.state.log_history if "loss" in line]


SAMPLED = {"completions_per_prompt": 1, "temperature": 1.0, "desirable_reward": 0.5}
RECORDED_ROWS = {"completions": "recorded", "completions_per_prompt": 8, "temperature": 0.7}


@pytest.mark.parametrize(
    ("options", "size"),
    [
        pytest.param(SAMPLED, 4, marks=pytest.mark.full),
        (SAMPLED, 1),
        pytest.param(RECORDED_ROWS, 4, marks=pytest.mark.full),
        (RECORDED_ROWS, 2),
    ],
)
def test_the_steps_are_those_of_trls_own_trainer(
    build: Callable[..., Any],
    make_group: Callable[..., GradedGroup],
    make_rollout: Callable[..., Any],
    tiny_model: Path,
    tmp_path: Path,
    options: dict[str, Any],
    size: int,
) -> None:
    learner = build(
        kind="kto",
        steps=3,
        prompts_per_step=4,
        completions_per_micro_batch=size,
        beta=0.3,
        desirable_weight=1.5,
        **options,
    )

    is_recorded = "completions" in options

    def batch() -> list[GradedGroup]:
        policy, groups = RECORDED if is_recorded else learner.publish().policy, []
        for prompt, ids, reward in COMPLETIONS:
            rollout = make_rollout(
                policy=policy, prompt_ids=prompt, completion_ids=ids, logprobs=(math.nan,) * len(ids)
            )
            label = float(reward >= 0.5) if is_recorded else reward
            groups.append(replace(make_group([label]), rollouts=(rollout,)))
        return groups

    ours = [learner.learn(batch()) for _ in range(3)]
    theirs = steps_of_trl(tiny_model, tmp_path / "trl", num_steps=3, shift=int(is_recorded))
    for ours_name, name in {"loss": "loss", "grad_norm": "grad_norm", "kto/kl": "kl"}.items():
        assert [step[ours_name] for step in ours] == pytest.approx(
            [step[name] for step in theirs], rel=1e-3, abs=1e-6
        ), name
    assert (ours[0]["kto/desirable"], ours[0]["kto/undesirable"], ours[0]["kto/left_out"]) == (2.0, 2.0, 0.0)


def test_a_group_of_equal_rewards_teaches_nothing(
    build: Callable[..., Any], group_for: Callable[..., GradedGroup]
) -> None:
    learner = build(kind="kto")
    before = learner.publish().policy.fingerprint
    metrics = learner.learn([group_for(learner, [0.5, 0.5, None, 0.5])])
    assert (metrics["kto/left_out"], metrics["loss"], metrics["grad_norm"]) == (4.0, 0.0, 0.0)
    assert learner.publish().policy.fingerprint == before
