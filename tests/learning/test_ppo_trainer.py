"""PPO on the real trainer with a tiny model: its gradient by independent code, and its way through a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from rft.turns import Author, Turn
from rft.types import GradedGroup

pytestmark = pytest.mark.e2e  # real libraries: too slow for a unit test

PROMPT = (10, 11, 12)
COMPLETIONS = ((20, 21, 22, 2), (30, 31, 32, 2), (40, 41, 2), (50, 51, 52, 53))
TEMPERATURE = 0.7
"""Those of tests/learning/conftest.py."""
PPO: dict[str, Any] = {
    "kind": "ppo",
    "gamma": 0.9,
    "gae_lambda": 0.8,
    "value_learning_rate": 1e-2,
    "value_updates": 4,
    "trl": {"max_grad_norm": 0.0},
}

GIVEN = 1
"""In episodes, the position of a token that the policy did not sample."""

Build = Callable[..., Any]
GroupFor = Callable[..., GradedGroup]


def expected_gradient(
    learner: Any, rewards: list[float | None], kl_coef: float, *, is_episode: bool
) -> dict[str, torch.Tensor]:
    """-mean(A grad log pi) over sampled tokens, with a value function that is 0, completion by completion."""
    model = learner._stepped.trainer.model
    rows = []
    for completion, reward in zip(COMPLETIONS, rewards, strict=True):
        if reward is None:
            continue

        def logprobs(completion: tuple[int, ...] = completion) -> torch.Tensor:
            logits = model(torch.tensor([[*PROMPT, *completion]])).logits[0, len(PROMPT) - 1 : -1]
            every = torch.log_softmax(logits / TEMPERATURE, -1)[range(len(completion)), list(completion)]
            return every[[place for place in range(len(completion)) if place != GIVEN or not is_episode]]

        own = logprobs()
        with torch.no_grad(), model.disable_adapter():
            kl = (own - logprobs()).detach().numpy()
        token_rewards = -kl_coef * kl
        token_rewards[-1] += reward
        advantages = [sum((0.9 * 0.8) ** k * token_rewards[t + k] for k in range(len(kl) - t)) for t in range(len(kl))]
        rows.append((own, advantages))
    every = np.concatenate([advantages for _, advantages in rows])
    mean, deviation = every.mean(), every.std(ddof=1)
    parts = [(own * torch.tensor((np.array(some) - mean) / deviation)).sum() for own, some in rows]
    model.zero_grad()
    (-sum(parts) / len(every)).backward()
    found = {name: each.grad.clone() for name, each in model.named_parameters() if each.requires_grad}
    model.zero_grad()
    return found


def as_episodes(group: GradedGroup) -> GradedGroup:
    """The group with an environment's token in every completion."""
    rollouts = []
    for rollout in group.rollouts:
        ends = (GIVEN, GIVEN + 1, len(rollout.completion_ids))
        authors = (Author.POLICY, Author.ENVIRONMENT, Author.POLICY)
        turns = [
            Turn(author=author, start=start, end=end)
            for author, start, end in zip(authors, (0, *ends), ends, strict=False)
        ]
        logprobs = [0.0 if place == GIVEN else value for place, value in enumerate(rollout.logprobs)]
        rollouts.append(replace(rollout, turns=tuple(turns), logprobs=tuple(logprobs)))
    return replace(group, rollouts=tuple(rollouts))


ALL, ONE_WITHOUT = [1.0, 0.0, 0.5, 0.0], [1.0, None, 0.5, 0.0]
PAIRS = (
    (0.3, 2, "all", False),
    (0.3, 4, "one without", True),
    (0.0, 2, "one without", True),
    (0.0, 4, "all", False),
    (0.0, 2, "all", True),
    (0.3, 4, "one without", False),
)
"""Every two values of two settings meet; `full` has the other combinations."""


@pytest.mark.parametrize(
    ("kl_coef", "size", "rewards", "is_episode"),
    [
        pytest.param(*case, marks=() if case in PAIRS else pytest.mark.full)
        for case in product((0.0, 0.3), (4, 2), ("all", "one without"), (False, True))
    ],
)
def test_the_first_gradient(
    build: Build,
    group_for: GroupFor,
    keep_gradients: Any,
    same_up_to_rounding: Any,
    kl_coef: float,
    size: int,
    rewards: str,
    is_episode: bool,
) -> None:
    given = {"all": ALL, "one without": ONE_WITHOUT}[rewards]
    learner = build(**PPO, kl_coef=kl_coef, completions_per_micro_batch=size)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, each in learner._stepped.trainer.model.named_parameters():
            if "lora_B" in name:
                each.copy_(0.05 * torch.randn(each.shape))
    found = keep_gradients(learner)
    expected = expected_gradient(learner, given, kl_coef, is_episode=is_episode)
    group = group_for(learner, given)
    metrics = learner.learn([as_episodes(group) if is_episode else group])
    same_up_to_rounding(found, expected)
    assert metrics["completions/learned_from"] == len([reward for reward in given if reward is not None])
    assert metrics["value/loss"] > 0
    assert ("kl" in metrics) == (kl_coef > 0)


def test_without_any_reward_nothing_moves(build: Build, group_for: GroupFor) -> None:
    learner = build(**PPO)
    before = learner.publish().policy.fingerprint
    assert learner.learn([group_for(learner, [None] * 4)])["grad_norm"] == 0.0
    assert learner.publish().policy.fingerprint == before


def test_one_completion_of_each_prompt(build: Build, group_for: GroupFor) -> None:
    learner = build(**PPO, prompts_per_step=4, completions_per_prompt=1)
    group = group_for(learner, [1.0, 0.0, 0.0, 0.5])
    singles = [
        GradedGroup(task=group.task, rollouts=(rollout,), grades=(grade,))
        for rollout, grade in zip(group.rollouts, group.grades, strict=True)
    ]
    assert learner.learn(singles)["grad_norm"] > 0


def test_several_epochs_clip(build: Build, group_for: GroupFor) -> None:
    learner = build(**PPO, epochs=3, steps=2)
    for step in (1, 2):
        metrics = learner.learn([group_for(learner, [1.0, 0.0, 0.5, 0.0])])
        assert (learner.steps_done, learner._stepped.trainer.state.global_step) == (step, 3 * step)
        assert metrics["clip_ratio/region_mean"] > 0, "after two steps of learning rate 1e-2 the ratio is far from 1"
        # The sampler is compared once, under the policy that sampled.
        assert metrics["sampling/sampling_logp_difference/max"] < 1e-4
    assert learner.publish().policy.version == 2


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_resumed_run_takes_the_same_steps(
    build: Build, group_for: GroupFor, keep_gradients: Any, same_up_to_rounding: Any, tmp_path: Path, epochs: int
) -> None:
    whole = build(**PPO, epochs=epochs)
    whole.learn([group_for(whole, [1.0, 0.0, 0.5, 0.0])])
    whole.save()
    checkpoint = tmp_path / "run" / "checkpoints" / "checkpoint-1"
    assert (checkpoint / "value_function.safetensors").exists(), "TRL changed: _save_checkpoint writes another folder"
    resumed = build(**PPO, epochs=epochs, resume_from=checkpoint)
    assert resumed.steps_done == 1
    critics = [learner._stepped.trainer._critic for learner in (whole, resumed)]
    for tensor, again in zip(*(critic.parameters() for critic in critics), strict=True):
        assert torch.equal(tensor, again)
    batch = [group_for(whole, [0.0, 1.0, 0.5, 0.0])]
    gradients = [keep_gradients(learner) for learner in (whole, resumed)]
    expected, found = whole.learn(batch), resumed.learn(batch)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert found["value/mean"] != 0, "a fresh value function would say 0"
    if epochs == 1:  # the gradient of a second epoch depends on the step of Adam before it
        same_up_to_rounding(*gradients)
    # The adapter that users get is a plain one.
    assert all("lora_" in name for name in safetensors.torch.load(whole.publish().weights.tensors))
