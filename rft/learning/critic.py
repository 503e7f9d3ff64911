"""The value function of PPO, which predicts the remaining reward at each token.

The value function is a small network on the policy's last hidden state. The hidden state is detached, so only the
policy's loss trains the adapter, and the value function takes many cheap steps on states that were computed once. The
cost of this design is that the value function cannot learn its own features.
"""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from rft.learning.ranks import Ranks

FILE = "value_function.safetensors"
"""File of the value function in a checkpoint."""


def value_loss(
    values: Tensor, old: Tensor, returns: Tensor, clip: float, *, total: float | None = None
) -> tuple[Tensor, Tensor]:
    """Return PPO's clipped value loss: half the mean of the larger squared error, of the value or of the clipped value.

    Args:
        values: `[M]` current values.
        old: `[M]` values before the step.
        returns: `[M]` targets.
        clip: Largest change of a value.
        total: Number of values in the mean, if `values` is only a part of them.

    Returns:
        The loss, and the share of values for which the clipped error was larger.
    """
    plain = (values - returns) ** 2
    clipped = (torch.clamp(values, old - clip, old + clip) - returns) ** 2
    total = len(values) if total is None else total
    return 0.5 * torch.maximum(plain, clipped).sum() / total, (clipped > plain).float().sum() / total


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """Return the share of the variance of `[M]` returns that `[M]` values explain; 0 for fewer than 2 returns."""
    if len(returns) < 2:
        return 0.0
    return float(1 - (returns - values).var() / returns.var().clamp(min=1e-8))


class Critic:
    """The value function and its optimizer.

    Args:
        hidden_size: Width of the policy's hidden states.
        learning_rate: Adam's learning rate.
        clip: Largest change of a value on one batch.
        device: Device of the policy.
        ranks: The processes that train together.
    """

    def __init__(
        self, hidden_size: int, *, learning_rate: float, clip: float, device: torch.device, ranks: Ranks | None = None
    ) -> None:
        self._ranks = ranks or Ranks()
        self._net = nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, 1)).to(device)
        # All values start at 0, so the first advantages are computed from rewards alone.
        for parameter in self._net[-1].parameters():
            nn.init.zeros_(parameter)
        self._optimizer = torch.optim.Adam(self._net.parameters(), lr=learning_rate)
        self._clip = clip

    def parameters(self) -> list[Tensor]:
        """Return the trained weights."""
        return list(self._net.parameters())

    def values(self, hidden: Tensor) -> Tensor:
        """Return the `[...]` values of `[..., H]` hidden states, in float32 and without a gradient."""
        with torch.no_grad():
            values: Tensor = self._net(hidden.float()).squeeze(-1)
        return values

    def fit(self, hidden: Tensor, old: Tensor, returns: Tensor, *, updates: int) -> dict[str, float]:
        """Take optimizer steps towards the returns, on this rank's share of the tokens.

        Args:
            hidden: `[M, H]` hidden states before each token; M may be 0 if other ranks have tokens.
            old: `[M]` current values.
            returns: `[M]` targets.
            updates: Number of optimizer steps.

        Returns:
            `value/...`: the loss before the last step and the clipped share, over the tokens of all ranks.
        """
        states = hidden.float()
        total = torch.tensor([float(len(returns))], device=states.device)
        self._ranks.add_up([total])
        for _ in range(updates):
            loss, clipped = value_loss(self._net(states).squeeze(-1), old, returns, self._clip, total=total.item())
            self._optimizer.zero_grad()
            loss.backward()
            self._ranks.add_up([parameter.grad for parameter in self._net.parameters()])
            self._optimizer.step()
        last = torch.stack([loss.detach(), clipped])
        self._ranks.add_up([last])
        return {"value/loss": last[0].item(), "value/clipped_share": last[1].item()}

    def save(self, checkpoint: Path) -> None:
        """Write the network and its optimizer into a checkpoint."""
        tensors = {f"net.{name}": tensor for name, tensor in self._net.state_dict().items()}
        for number, state in self._optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{number}.{name}": tensor for name, tensor in state.items()}
        safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, checkpoint / FILE)

    def load(self, checkpoint: Path) -> None:
        """Restore the network and its optimizer from a checkpoint."""
        tensors = safetensors.torch.load_file(checkpoint / FILE)
        self._net.load_state_dict({name[4:]: each for name, each in tensors.items() if name.startswith("net.")})
        state = self._optimizer.state_dict()
        for name, tensor in tensors.items():
            if name.startswith("adam."):
                _, number, field = name.split(".")
                state["state"].setdefault(int(number), {})[field] = tensor
        self._optimizer.load_state_dict(state)
