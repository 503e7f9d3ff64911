"""Rewards by turn on the real trainers with a tiny model: their gradients by independent code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rft.run_folder.token_shards import read_shard, write_shard
from rft.turns import Author, Turn
from rft.types import GradedGroup, StopReason

pytestmark = pytest.mark.e2e  # real libraries: too slow for a unit test

PROMPT = (10, 11, 12)
COMPLETIONS = ((20, 21, 22, 2), (30, 31, 32, 2), (40, 41, 2), (50, 51, 52, 53))
TEMPERATURE = 0.7
"""Those of tests/learning/conftest.py."""
GIVEN = 1
"""Position of the token that the policy did not sample: the first turn stands before it, the second one after it."""
BY_TURN = ((1.0, 0.5), (0.0, 0.25), None, (-1.0, 2.0))
"""Rewards of the two turns; the third episode has none."""
STOPS = (StopReason.STOP, StopReason.TURNS, StopReason.STOP, StopReason.LENGTH)
"""The second episode ends with an end token, as the first one does, but at a limit."""
DISCOUNT = 0.5
TURN = {"environment": {"credit": "turn", "discount": DISCOUNT}, "trl": {"max_grad_norm": 0.0}}

Build = Callable[..., Any]
GroupFor = Callable[..., GradedGroup]


@pytest.fixture
def episodes(group_for: GroupFor) -> Callable[[Any], GradedGroup]:
    def make(learner: Any) -> GradedGroup:
        group = group_for(learner, [None if rewards is None else sum(rewards) for rewards in BY_TURN])
        rollouts, grades = [], []
        group = replace(group, rollouts=tuple(replace(each, stop=STOPS[each.index]) for each in group.rollouts))
        for rollout, grade, rewards in zip(group.rollouts, group.grades, BY_TURN, strict=True):
            length = len(rollout.completion_ids)
            turns = (
                Turn(author=Author.POLICY, start=0, end=GIVEN),
                Turn(author=Author.ENVIRONMENT, start=GIVEN, end=GIVEN + 1),
                Turn(author=Author.POLICY, start=GIVEN + 1, end=length),
            )
            logprobs = [0.0 if place == GIVEN else value for place, value in enumerate(rollout.logprobs)]
            rollouts.append(replace(rollout, turns=turns, logprobs=tuple(logprobs)))
            grades.append(replace(grade, turn_rewards=rewards or ()))
        return replace(group, rollouts=tuple(rollouts), grades=tuple(grades))

    return make


def moved(learner: Any) -> Any:
    """The learner, away from the start, where one of LoRA's matrices has no gradient."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, each in learner._stepped.trainer.model.named_parameters():
            if "lora_B" in name:
                each.copy_(0.05 * torch.randn(each.shape))
    return learner


def gradient(learner: Any, advantages: list[list[float] | None]) -> dict[str, torch.Tensor]:
    """-mean(A grad log pi) over the sampled tokens of these episodes; None leaves an episode out."""
    model = learner._stepped.trainer.model
    total, count = torch.zeros(()), 0
    for completion, some in zip(COMPLETIONS, advantages, strict=True):
        if some is None:
            continue
        logits = model(torch.tensor([[*PROMPT, *completion]])).logits[0, len(PROMPT) - 1 : -1]
        every = torch.log_softmax(logits / TEMPERATURE, -1)[range(len(completion)), list(completion)]
        own = every[[place for place in range(len(completion)) if place != GIVEN]]
        total = total + (own * torch.tensor(some)).sum()
        count += len(own)
    model.zero_grad()
    (-total / count).backward()
    found = {name: each.grad.clone() for name, each in model.named_parameters() if each.requires_grad}
    model.zero_grad()
    return found


@pytest.mark.parametrize("mask_truncated", [False, True])
def test_grpo(
    build: Build, episodes: Any, keep_gradients: Any, same_up_to_rounding: Any, tmp_path: Path, mask_truncated: bool
) -> None:
    """Returns 1.25, 0.5 | 0.125, 0.25 | 0, 2: the mean returns 0.875, 0.1875 and 1 have the mean 0.6875.

    The episode without a reward counts in the loss's denominator. So do not, if masked, those that reached a limit;
    their rewards still count in the mean, as in TRL.
    """
    learner = moved(build(**TURN, scale_rewards="none", mask_truncated=mask_truncated))
    centred = [(1.25 - 0.6875, 0.5 - 0.6875), (0.125 - 0.6875, 0.25 - 0.6875), (0.0, 0.0), (-0.6875, 2 - 0.6875)]
    advantages: list[list[float] | None] = [
        [first] + [second] * (len(completion) - 2)
        for (first, second), completion in zip(centred, COMPLETIONS, strict=True)
    ]
    if mask_truncated:
        advantages[1] = advantages[3] = None
    expected = gradient(learner, advantages)
    found = keep_gradients(learner)
    batch = [episodes(learner)]
    write_shard(tmp_path, 1, batch)
    recorded = read_shard(tmp_path, 1)
    assert [grade.turn_rewards for grade in recorded[0].grades] == [rewards or () for rewards in BY_TURN]
    metrics = learner.learn(recorded)
    same_up_to_rounding(found, expected)
    assert metrics["completions/learned_from"] == (1 if mask_truncated else 3)


def test_ppo(build: Build, episodes: Any, keep_gradients: Any, same_up_to_rounding: Any) -> None:
    """GAE with a value function of 0: A_t = r_t + gamma lambda A_(t+1), with a turn's reward at its last token."""
    learner = moved(build(kind="ppo", gamma=0.9, gae_lambda=0.8, **TURN))
    raw: list[list[float] | None] = []
    for completion, rewards in zip(COMPLETIONS, BY_TURN, strict=True):
        if rewards is None:
            raw.append(None)
            continue
        some, following = [], 0.0
        for reward in reversed([rewards[0], *[0.0] * (len(completion) - 3), rewards[1]]):
            following = reward + 0.9 * 0.8 * following
            some.insert(0, following)
        raw.append(some)
    every = np.concatenate([some for some in raw if some is not None])
    mean, deviation = every.mean(), every.std(ddof=1)
    expected = gradient(
        learner, [None if some is None else [(value - mean) / deviation for value in some] for some in raw]
    )
    found = keep_gradients(learner)
    learner.learn([episodes(learner)])
    same_up_to_rounding(found, expected)
