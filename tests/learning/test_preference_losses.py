"""The losses of preference learners, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from rft.learning.preference_losses import dpo_loss, kto_loss


def test_dpo_loss() -> None:
    ratios = torch.tensor([3.0, 9.0, -1.0, 2.0, 5.0], requires_grad=True)
    loss, metrics = dpo_loss(ratios, [(0, 2), (3, 4)], beta=0.5)
    # Margins 0.5 x (3 + 1) = 2 and 0.5 x (2 - 5) = -1.5.
    losses = [math.log(1 + math.exp(-2.0)), math.log(1 + math.exp(1.5))]
    assert loss.item() == pytest.approx(sum(losses) / 2, rel=1e-6)
    assert metrics == pytest.approx(
        {"chosen_log_ratio": 2.5, "rejected_log_ratio": 2.0, "margin": 0.25, "accuracy": 0.5}
    )
    loss.backward()
    # -beta sigmoid(-margin) / 2 for a chosen completion, the opposite for the rejected one; none for the second.
    first, second = (0.25 / (1 + math.exp(margin)) for margin in (2.0, -1.5))
    assert ratios.grad is not None
    assert ratios.grad.tolist() == pytest.approx([-first, 0.0, first, -second, second])


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_kto_loss() -> None:
    ratios = torch.tensor([3.0, 9.0, -1.0, 1.0], requires_grad=True)
    weights = {"desirable_weight": 2.0, "undesirable_weight": 0.5}
    loss, metrics = kto_loss(ratios, [0, 3], [2], beta=0.5, **weights)
    # The mean of 3, -1 and 1 is 1, and the second completion does not count.
    assert metrics == pytest.approx({"kl": 1.0, "desirable_log_ratio": 2.0, "undesirable_log_ratio": -1.0})
    expected = [2 * (1 - sigmoid(1.0)), 2 * (1 - sigmoid(0.0)), 0.5 * (1 - sigmoid(1.0))]
    assert loss.item() == pytest.approx(sum(expected) / 3, rel=1e-6)
    loss.backward()
    # -weight beta s (1 - s) / 3 for a desirable completion, the opposite for an undesirable one; none through kl.
    slope = 0.5 * sigmoid(1.0) * (1 - sigmoid(1.0)) / 3
    assert ratios.grad is not None
    assert ratios.grad.tolist() == pytest.approx([-2 * slope, 0.0, 0.5 * slope, -2 * 0.5 * 0.25 / 3])


def test_kto_loss_of_one_kind_and_of_a_negative_divergence() -> None:
    loss, metrics = kto_loss(torch.tensor([-2.0, 0.0]), [], [0, 1], beta=1.0, desirable_weight=1, undesirable_weight=1)
    assert metrics == {"kl": 0.0, "undesirable_log_ratio": -1.0}
    assert loss.item() == pytest.approx((1 - sigmoid(2.0) + 0.5) / 2, rel=1e-6)
