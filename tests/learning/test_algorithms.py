"""Each preset of `learner` takes a real step; its loss is worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from rft.config.learners import LEARNERS
from rft.config.learners.grpo import GrpoLearnerConfig
from rft.config.learners.ppo import PpoLearnerConfig
from rft.types import GradedGroup

CONF = Path(__file__).parents[2] / "conf" / "learner"
REWARDS = [1.0, 0.0, 0.0, 0.5]
"""Of completions of 4, 4, 3 and 4 tokens; the last has no end-of-sequence token. Mean 0.375, sum of squares 1.25."""
SD = ((1.25 - 4 * 0.375**2) / 3) ** 0.5 + 1e-4
GROUP = [(reward - 0.375) / SD for reward in REWARDS]
RLOO = [1 - 0.5 / 3, -0.5, -0.5, 0.5 - 1 / 3]
REINFORCE_PP = [(reward - 0.375) / ((1.25 - 4 * 0.375**2) / 3) ** 0.5 for reward in REWARDS]
"""Of a single group: the mean of the differences is 0, and their standard deviation is that of the rewards."""


def preset(name: str) -> dict[str, Any]:
    """The keys that a preset sets, its kind among them."""
    values = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    (base,) = values.pop("defaults")
    return {"kind": base.removeprefix("base_"), **values}


def test_every_preset_is_here() -> None:
    names = {path.stem for path in CONF.glob("*.yaml")}
    assert names == {*LOSSES, "ppo", "sft", "distill", "fake"}
    assert LEARNERS.keys() == {preset(name)["kind"] for name in names}


def test_the_options_of_trl() -> None:
    learner = GrpoLearnerConfig(clip=0.1, correction=None, beta=0.05, trl={"delta": 2.0})
    assert learner.trl_options() == {
        "epsilon": 0.1,
        "epsilon_high": None,
        "mask_truncated_completions": False,
        "vllm_importance_sampling_correction": False,
        "loss_type": "dapo",
        "scale_rewards": "group",
        "importance_sampling_level": "token",
        "beta": 0.05,
        "use_bias_correction_kl": True,
        "delta": 2.0,
    }
    assert GrpoLearnerConfig(importance_sampling_level="sequence").trl_options()["use_bias_correction_kl"] is False
    assert GrpoLearnerConfig(loss_type="cispo").trl_options()["epsilon_high"] == 5.0
    assert GrpoLearnerConfig(loss_type="cispo", clip_high=3.0).trl_options()["epsilon_high"] == 3.0
    of_ppo = PpoLearnerConfig(kl_coef=0.1).trl_options()
    assert (of_ppo["beta"], of_ppo["loss_type"], of_ppo["vllm_importance_sampling_mode"]) == (
        0.1,
        "dapo",
        "token_truncate",
    )


def likelihood(model: Any, prompt: Sequence[int], completion: Sequence[int]) -> torch.Tensor:
    """Log-probabilities of a completion's tokens, with a gradient, at the temperature of tests/learning/conftest.py."""
    logits = model(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits.float() / 0.7, dim=-1)[range(len(completion)), list(completion)]


LOSSES = {
    # The mean over all 15 tokens.
    "grpo": -(4 * GROUP[0] + 4 * GROUP[1] + 3 * GROUP[2] + 4 * GROUP[3]) / 15,
    # The sum over the tokens, divided by 4 completions of at most 8 tokens; rewards less their mean.
    "dr_grpo": -(4 * 0.625 + 4 * -0.375 + 3 * -0.375 + 4 * 0.125) / (4 * 8),
    # The truncated one is left out.
    "dapo": -(4 * GROUP[0] + 4 * GROUP[1] + 3 * GROUP[2]) / 11,
    # The mean over completions: that of the advantages, which is 0.
    "gspo": 0.0,
    "gmpo": 0.0,
    # The mean over all 15 tokens.
    "reinforce_pp_baseline": -(4 * REINFORCE_PP[0] + 4 * REINFORCE_PP[1] + 3 * REINFORCE_PP[2] + 4 * REINFORCE_PP[3])
    / 15,
    # Policy and start are equal, so the margin is 0: -log sigmoid(0).
    "dpo": math.log(2),
    # Policy and start are equal: 1 - sigmoid(0) for each of the four completions.
    "kto": 0.5,
    # The first completion, which is the best, with an advantage of 1: the mean over its tokens.
    "raft": -1.0,
    "rloo": -(4 * RLOO[0] + 4 * RLOO[1] + 3 * RLOO[2] + 4 * RLOO[3]) / (4 * 8),
}


@pytest.mark.e2e
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [pytest.param(4, marks=pytest.mark.full), 1])
def test_a_step_of_each_preset(
    build: Callable[..., Any], group_for: Callable[..., GradedGroup], name: str, size: int
) -> None:
    built = build(**preset(name), completions_per_micro_batch=size)
    before = built.publish().policy.fingerprint
    metrics = built.learn([group_for(built, REWARDS)])
    assert metrics["loss"] == pytest.approx(LOSSES[name], abs=2e-5)
    assert metrics["grad_norm"] > 0.01
    assert built.publish().policy.fingerprint != before
    assert metrics["completions/masked"] == {"dapo": 1, "raft": 3}.get(name, 0)


@pytest.mark.e2e
@pytest.mark.parametrize("size", [pytest.param(4, marks=pytest.mark.full), 1])
def test_the_gradient_of_raft_is_that_of_the_likelihood(
    build: Callable[..., Any],
    group_for: Callable[..., GradedGroup],
    keep_gradients: Any,
    same_up_to_rounding: Any,
    size: int,
) -> None:
    """Of the two best completions, with 4 and 3 tokens, at the sampling temperature."""
    built = build(**preset("raft"), max_per_prompt=2, completions_per_micro_batch=size, trl={"max_grad_norm": 1e9})
    group = group_for(built, [1.0, 0.0, 1.0, 0.5])
    found = keep_gradients(built)
    model = built._stepped.trainer.model
    chosen = [group.rollouts[0], group.rollouts[2]]
    scores = [likelihood(model, rollout.prompt_ids, rollout.completion_ids) for rollout in chosen]
    (-torch.cat(scores).mean()).backward()
    expected = {name: each.grad.clone() for name, each in model.named_parameters() if each.requires_grad}
    model.zero_grad()
    metrics = built.learn([group])
    same_up_to_rounding(found, expected)
    assert metrics["nll"] == pytest.approx(-torch.cat(scores).mean().item(), rel=1e-5)
