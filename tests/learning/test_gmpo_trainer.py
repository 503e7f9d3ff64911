"""GMPO's loss and gradient against the formula of its paper, written anew and differentiated by torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from rft.types import GradedGroup

pytestmark = pytest.mark.e2e  # real libraries: too slow for a unit test

PROMPT = (10, 11, 12)
COMPLETIONS = ((20, 21, 22, 2), (30, 31, 32, 2), (40, 41, 2), (50, 51, 52, 53))
TEMPERATURE = 0.7
"""Those of tests/learning/conftest.py."""
ADVANTAGES = (1.5, -0.5, 0.75, -2.0)
LOG_RATIOS = ((0.1, -0.9, 0.7, 0.39), (0.9, -0.3, -0.41, 0.1), (0.5, 0.6, 2.0), (-0.2, -1.0, 0.0, 0.5))
"""`[N][T]` log-ratios of new to old probability, within and beyond 0.4 on either side."""


def logprobs(model: Any, completion: Sequence[int]) -> Tensor:
    logits = model(torch.tensor([[*PROMPT, *completion]])).logits[0, len(PROMPT) - 1 : -1]
    return torch.log_softmax(logits / TEMPERATURE, -1)[range(len(completion)), list(completion)]


def by_the_paper(model: Any, old: Sequence[Tensor], clip: float) -> Tensor:
    """`-mean_i A_i (prod_t min(rho_t^s, clip(rho_t^s, e^-clip, e^clip))^s)^(1/T)`, `s` the sign of `A_i`."""
    terms = []
    for completion, before, advantage in zip(COMPLETIONS, old, ADVANTAGES, strict=True):
        sign = math.copysign(1.0, advantage)
        ratio = torch.exp(logprobs(model, completion) - before) ** sign
        factors = torch.minimum(ratio, ratio.clamp(math.exp(-clip), math.exp(clip))) ** sign
        terms.append(-advantage * factors.prod() ** (1 / len(completion)))
    return torch.stack(terms).mean()


def inputs_of(old: Sequence[Tensor]) -> dict[str, Tensor]:
    """A micro-batch as TRL has it, padded to 4 tokens."""
    pad = [4 - len(completion) for completion in COMPLETIONS]
    rows = zip(COMPLETIONS, pad, strict=True)
    return {
        "prompt_ids": torch.tensor([PROMPT] * 4),
        "prompt_mask": torch.ones(4, 3, dtype=torch.long),
        "completion_ids": torch.tensor([[*completion, *[1] * more] for completion, more in rows]),
        "completion_mask": torch.tensor([[1] * (4 - more) + [0] * more for more in pad]),
        "old_per_token_logps": torch.stack(
            [torch.cat([row, torch.zeros(more)]) for row, more in zip(old, pad, strict=True)]
        ),
        "advantages": torch.tensor(ADVANTAGES),
    }


@pytest.mark.parametrize("clip", [0.4, pytest.param(0.8, marks=pytest.mark.full)])
def test_loss_and_gradient(build: Callable[..., Any], same_up_to_rounding: Any, clip: float) -> None:
    trainer = build(kind="gmpo", clip=clip)._stepped.trainer
    model = trainer.model
    with torch.no_grad():
        for name, each in model.named_parameters():
            if each.requires_grad:
                each.copy_(0.1 * torch.randn(each.shape, generator=torch.Generator().manual_seed(len(name))))
        own = [logprobs(model, completion) for completion in COMPLETIONS]
    old = [row - torch.tensor(ratios) for row, ratios in zip(own, LOG_RATIOS, strict=True)]
    gradients, losses = [], []
    trainer.current_gradient_accumulation_steps = 1
    for compute in (
        lambda: trainer._compute_loss(model, {"parts": [inputs_of(old)]}),
        lambda: by_the_paper(model, old, clip),
    ):
        model.zero_grad()
        loss = compute()
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: each.grad.clone() for name, each in model.named_parameters() if each.requires_grad})
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)  # rounding, as in the next test
    same_up_to_rounding(*gradients)


def test_the_loss_by_hand(build: Callable[..., Any]) -> None:
    trainer = build(kind="gmpo")._stepped.trainer
    with torch.no_grad():
        own = [logprobs(trainer.model, completion) for completion in COMPLETIONS]
        old = [row - torch.tensor(ratios) for row, ratios in zip(own, LOG_RATIOS, strict=True)]
        trainer.current_gradient_accumulation_steps = 1
        loss = trainer._compute_loss(trainer.model, {"parts": [inputs_of(old)]}).item()
    # Positive advantages: at most 0.4, so 0.1 - 0.9 + 0.4 + 0.39 and 3 x 0.4. Negative ones: at least -0.4, so
    # 0.9 - 0.3 - 0.4 + 0.1 and -0.2 - 0.4 + 0 + 0.5.
    means = (-0.01 / 4, 0.3 / 4, 0.4, -0.1 / 4)
    expected = -sum(advantage * math.exp(mean) for advantage, mean in zip(ADVANTAGES, means, strict=True)) / 4
    # Log-probabilities of about -5 are rounded to 5e-7, and the terms of the sum cancel.
    assert loss == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("correction", "weight"),
    [(None, 0.0), ("sequence_truncate", 0.1)],
    ids=["none", "truncated"],
)
def test_a_completion_is_weighed_by_how_the_sampler_differs(
    build: Callable[..., Any], group_for: Callable[..., GradedGroup], correction: str | None, weight: float
) -> None:
    learner = build(kind="gmpo", correction=correction, scale_rewards="none")
    # The sampler finds each token e^0.1 times as likely: the weight of T tokens is e^(-0.1 T).
    metrics = learner.learn([group_for(learner, [1.0, 0.0, 0.0, 0.5], off=0.1)])
    advantages, lengths = (0.625, -0.375, -0.375, 0.125), (4, 4, 3, 4)
    expected = -sum(a * math.exp(-weight * t) for a, t in zip(advantages, lengths, strict=True)) / 4
    assert metrics["loss"] == pytest.approx(expected, abs=2e-5)
