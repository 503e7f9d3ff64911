"""The advantages that rft computes are those of TRL's GRPOTrainer, bit for bit, but for exact zeros."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rft.errors import LearnError
from rft.learning.group_trainer import GroupTrainer
from rft.learning.trl_import import GRPOTrainer
from rft.types import GradedGroup

pytestmark = pytest.mark.e2e  # real libraries: too slow for a unit test

COMPLETIONS = tuple((20 + index, 30 + 2 * index, 2) for index in range(8))


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_they_are_equal(
    build: Callable[..., Any], group_for: Callable[..., GradedGroup], monkeypatch: pytest.MonkeyPatch, scale: str
) -> None:
    by_trl: list[Tensor] = []
    by_rft: list[Tensor] = []
    generate, compute = GRPOTrainer._generate_and_score_completions, GroupTrainer._advantages

    def generated(self: Any, inputs: Any) -> dict[str, Any]:
        batch: dict[str, Any] = generate(self, inputs)
        by_trl.append(batch["advantages"].clone())
        return batch

    def computed(self: Any, batch: dict[str, Any]) -> Tensor:
        by_rft.append(compute(self, batch))
        return by_rft[-1]

    monkeypatch.setattr(GRPOTrainer, "_generate_and_score_completions", generated)
    monkeypatch.setattr(GroupTrainer, "_advantages", computed)
    learner = build(prompts_per_step=4, completions_per_prompt=8, completions_per_micro_batch=8, scale_rewards=scale)
    draw = random.Random(0)
    for _ in range(4):
        rewards: list[list[float | None]] = [[draw.uniform(-2, 2) for _ in range(8)] for _ in range(3)]
        rewards[1] = [draw.choice([None, 0.1, 0.7, 1.0]) for _ in range(6)] + [0.3, 0.9]
        learner.learn([group_for(learner, some, COMPLETIONS) for some in [*rewards, [0.7] * 8]])
    assert len(by_trl) == len(by_rft) == 4
    for trl, rft in zip(by_trl, by_rft, strict=True):
        assert trl.dtype == rft.dtype == torch.float32
        assert torch.equal(rft[:24], trl[:24]), f"TRL changed: {(rft - trl)[:24]}"
        assert rft[24:].tolist() == [0.0] * 8, "equal rewards"


def test_a_function_of_the_users(
    build: Callable[..., Any], group_for: Callable[..., GradedGroup], tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def double(rewards, group_size):\n    return 2 * rewards\n\n"
        "def first(rewards, group_size):\n    return rewards[:1]\n"
    )
    own = {"scale_rewards": "none", "loss_type": "grpo"}
    learner = build("double", advantage=f"{file}:double", **own)
    # The mean over completions of minus the advantage; the completion without a reward has 0.
    metrics = learner.learn([group_for(learner, [1.0, None, 0.25, 0.5])])
    assert metrics["loss"] == pytest.approx(-(2.0 + 0.0 + 0.5 + 1.0) / 4, abs=2e-5)
    assert metrics["completions/learned_from"] == 3
    learner = build("first", advantage=f"{file}:first", **own)
    with pytest.raises(LearnError, match=r"mine.py:first: returned the shape \[1\] for rewards of shape \[4\]"):
        learner.learn([group_for(learner, [1.0, 0.0, 0.25, 0.5])])
