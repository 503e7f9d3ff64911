"""A group of equal rewards moves no weight, whatever the reward is and however advantages are made of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import safetensors.torch

from rft.types import GradedGroup

pytestmark = pytest.mark.e2e  # real libraries: too slow for a unit test

COMPLETIONS = tuple((20 + index, 30 + 2 * index, 40 + 3 * index, 2) for index in range(8))
"""8, for the float32 mean of 4 equal numbers is exact."""


def weights(learner: Any) -> dict[str, Any]:
    found: dict[str, Any] = safetensors.torch.load(learner.publish().weights.tensors)
    return found


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"scale_rewards": "batch"},
        {"scale_rewards": "none"},
        {"advantage": "rloo", "scale_rewards": "none"},
        {"loss_type": "bnpo"},
    ],
    ids=["group", "batch", "none", "rloo", "bnpo"],
)
@pytest.mark.parametrize("reward", [0.1, *(pytest.param(reward, marks=pytest.mark.full) for reward in (0.7, 0.9))])
def test_equal_rewards_change_nothing(
    build: Callable[..., Any], group_for: Callable[..., GradedGroup], how: dict[str, Any], reward: float
) -> None:
    learner = build(prompts_per_step=2, completions_per_prompt=8, learning_rate=1e-3, **how)
    before = weights(learner)
    group = group_for(learner, [reward] * 8, COMPLETIONS)
    metrics = learner.learn([group, group_for(learner, [reward, None] * 4, COMPLETIONS)])
    assert not group.is_informative
    assert metrics["grad_norm"] == 0.0
    for name, tensor in weights(learner).items():
        assert tensor.equal(before[name]), name
    # Where neighbours matter to the loss all go through the model; elsewhere these do not.
    assert metrics["completions/learned_from"] == (16 if "loss_type" in how else 0)


def test_beside_other_groups_they_have_no_part(build: Callable[..., Any], group_for: Callable[..., Any]) -> None:
    learner = build(prompts_per_step=2, completions_per_prompt=8, scale_rewards="batch", learning_rate=1e-3)
    equal = group_for(learner, [0.7] * 8, COMPLETIONS)
    metrics = learner.learn([equal, group_for(learner, [1.0, 0.0] * 4, COMPLETIONS)])
    assert metrics["completions/learned_from"] == 8
    assert metrics["grad_norm"] > 0.0
