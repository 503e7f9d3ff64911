"""The value function: its loss by hand, what it learns, and its way to disk and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rft.learning.critic import Critic, explained_variance, value_loss


def make(seed: int = 0, clip: float = 10.0) -> Critic:
    torch.manual_seed(seed)
    return Critic(4, learning_rate=0.02, clip=clip, device=torch.device("cpu"))


def test_the_loss_of_ppo_by_hand() -> None:
    # TRL 1.10: 0.5 x mean(max((v - R)^2, (clip(v, old - c, old + c) - R)^2)), and the share where the second is larger.
    values, old, returns = torch.tensor([1.0, 0.5, 0.0]), torch.zeros(3), torch.tensor([1.0, -1.0, 1.0])
    # Clipped to 0.2: 0.2, 0.2, 0. Errors: 0 and 0.64; 2.25 and 1.44; 1 and 1.
    loss, clipped = value_loss(values, old, returns, 0.2)
    assert loss.item() == pytest.approx(0.5 * (0.64 + 2.25 + 1.0) / 3)
    assert clipped.item() == pytest.approx(1 / 3)


def test_the_parts_of_a_loss_add_up() -> None:
    values, old, returns = torch.tensor([1.0, 0.5, 0.0]), torch.zeros(3), torch.tensor([1.0, -1.0, 1.0])
    whole = value_loss(values, old, returns, 0.2)
    parts = [value_loss(values[some], old[some], returns[some], 0.2, total=3) for some in ([0, 2], [1], [])]
    for found, expected in zip(zip(*parts, strict=True), whole, strict=True):
        assert sum(found).item() == pytest.approx(expected.item())


def test_how_much_of_the_variance_is_explained() -> None:
    returns = torch.tensor([0.0, 2.0, 4.0])
    assert explained_variance(torch.zeros(3), returns) == 0.0
    assert explained_variance(returns + 1.0, returns) == 1.0, "a constant is no variance"
    # Errors -1, 0, 1 of variance 1, returns of variance 4.
    assert explained_variance(torch.tensor([1.0, 2.0, 3.0]), returns) == pytest.approx(0.75)
    assert explained_variance(torch.zeros(1), torch.ones(1)) == 0.0


def test_a_clipped_value_gets_no_gradient() -> None:
    values = torch.tensor([1.0, 0.1], requires_grad=True)
    value_loss(values, torch.zeros(2), torch.tensor([2.0, 2.0]), 0.2)[0].backward()
    # The first has moved past the clip towards its return; the second: 0.5 x 2 x (0.1 - 2) / 2.
    assert values.grad is not None
    assert values.grad.tolist() == pytest.approx([0.0, -0.95])


def test_it_starts_at_zero_and_learns_what_can_be_seen() -> None:
    critic = make()
    hidden = torch.randn(200, 4)
    returns = hidden[:, 0] * 2 + 1
    assert critic.values(hidden).tolist() == [0.0] * 200
    first = critic.fit(hidden, critic.values(hidden), returns, updates=1)
    assert first["value/loss"] == pytest.approx(0.5 * (returns**2).mean().item())
    for _ in range(40):
        critic.fit(hidden, critic.values(hidden), returns, updates=10)
    assert explained_variance(critic.values(hidden), returns) > 0.98
    assert critic.values(hidden[None]).shape == (1, 200)


def test_it_goes_on_from_its_file(tmp_path: Path) -> None:
    hidden, returns = torch.randn(50, 4), torch.randn(50)
    critic = make()
    critic.fit(hidden, critic.values(hidden), returns, updates=3)
    critic.save(tmp_path)
    other = make(seed=1)
    other.load(tmp_path)
    for each in (critic, other):
        each.fit(hidden, each.values(hidden), returns, updates=3)
    torch.testing.assert_close(other.values(hidden), critic.values(hidden), rtol=0, atol=0)
    fresh = make(seed=1)
    fresh.load(tmp_path)
    fresh._optimizer = torch.optim.Adam(fresh._net.parameters(), lr=0.02)
    fresh.fit(hidden, fresh.values(hidden), returns, updates=3)
    assert (fresh.values(hidden) - critic.values(hidden)).abs().max() > 1e-3, "without Adam's state it goes elsewhere"
