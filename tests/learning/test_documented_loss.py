"""The learner's gradient is that of the formulas in docs/algorithms.md, written anew and differentiated by torch.

One completion at a time and without padding, on an adapter that is not the base model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import TrainerCallback

from rft.types import GradedGroup

pytestmark = pytest.mark.e2e  # real libraries: too slow for a unit test

PROMPT = (10, 11, 12)
COMPLETIONS = ((20, 21, 22, 2), (30, 31, 32, 2), (40, 41, 2), (50, 51, 52, 53))
TEMPERATURE = 0.7
"""Those of tests/learning/conftest.py."""
NUM_TOKENS = 15
REWARDS = [1.0, 0.0, 0.0, 0.5]
ADVANTAGES = [(reward - 0.375) / (((1.25 - 4 * 0.375**2) / 3) ** 0.5 + 1e-4) for reward in REWARDS]

Formula = Callable[[Tensor, Tensor, float], Tensor]
"""From `[T]` log-probabilities under the policy and the base model, and the advantage, to the `[T]` loss of tokens."""


class Gradients(TrainerCallback):
    """Keeps the gradient of the last step."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        self.last = {name: each.grad.clone() for name, each in model.named_parameters() if each.requires_grad}


def logprobs(model: Any, completion: Sequence[int]) -> Tensor:
    logits = model(torch.tensor([[*PROMPT, *completion]])).logits[0, len(PROMPT) - 1 : -1]
    return torch.log_softmax(logits / TEMPERATURE, -1)[range(len(completion)), list(completion)]


def documented(model: Any, formula: Formula) -> dict[str, Tensor]:
    """The gradient of the mean of the tokens' losses."""
    model.zero_grad()
    total = torch.zeros(())
    for completion, advantage in zip(COMPLETIONS, ADVANTAGES, strict=True):
        with torch.no_grad(), model.disable_adapter():
            base = logprobs(model, completion)
        total = total + formula(logprobs(model, completion), base, advantage).sum()
    (total / NUM_TOKENS).backward()
    found = {name: each.grad.clone() for name, each in model.named_parameters() if each.requires_grad}
    model.zero_grad()
    return found


def of_token(own: Tensor, base: Tensor, advantage: float) -> Tensor:
    ratio, d = torch.exp(own - own.detach()), base - own
    return -ratio * advantage + 0.5 * ratio * (torch.exp(d) - d - 1)


def of_sequence(own: Tensor, base: Tensor, advantage: float) -> Tensor:
    ratio, d = torch.exp((own - own.detach()).mean()), base - own
    return -ratio * advantage + 0.5 * (torch.exp(d) - d - 1)


def cispo(own: Tensor, base: Tensor, advantage: float) -> Tensor:
    # The ratio is 1 in the first epoch, well within 5.
    return -advantage * own


@pytest.mark.parametrize(
    ("keys", "formula"),
    [
        ({"beta": 0.5}, of_token),
        ({"beta": 0.5, "importance_sampling_level": "sequence"}, of_sequence),
        ({"loss_type": "cispo"}, cispo),
    ],
    ids=["KL of tokens", "KL of sequences", "cispo"],
)
@pytest.mark.parametrize("size", [pytest.param(4, marks=pytest.mark.full), 1])
def test_the_gradient(
    build: Callable[..., Any],
    group_for: Callable[..., GradedGroup],
    keys: dict[str, Any],
    formula: Formula,
    size: int,
) -> None:
    learner = build(**keys, trl={"max_grad_norm": 0.0}, completions_per_micro_batch=size)
    model = learner._stepped.trainer.model
    with torch.no_grad():
        for name, each in model.named_parameters():
            if each.requires_grad:
                each.copy_(0.1 * torch.randn(each.shape, generator=torch.Generator().manual_seed(len(name))))
    expected = documented(model, formula)
    kept = Gradients()
    learner._stepped.trainer.add_callback(kept)
    with torch.no_grad(), model.disable_adapter():
        base = [logprobs(model, completion).tolist() for completion in COMPLETIONS[:3]]
    learner.learn([group_for(learner, REWARDS)])
    assert learner.start_logprobs(3) == ([pytest.approx(row, abs=1e-3) for row in base] if keys.get("beta") else [])
    scale = max(gradient.abs().max().item() for gradient in expected.values())
    assert scale > 1e-3, "there must be a gradient to compare"
    for name, gradient in expected.items():
        torch.testing.assert_close(kept.last[name], gradient, rtol=1e-4, atol=5e-5 * scale)
