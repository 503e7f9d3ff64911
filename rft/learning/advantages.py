"""Advantages that TRL's GRPOTrainer does not compute: leave-one-out, generalized advantage estimation, exact zeros."""

from __future__ import annotations

import torch
from torch import Tensor

from rft.types import EQUAL_REWARDS


def leave_one_out(rewards: Tensor, group_size: int) -> Tensor:
    """RLOO (arXiv 2402.14740): each reward less the mean of the others of its group.

    Args:
        rewards: `[N]` rewards, group by group; NaN where there is none.
        group_size: Completions of a group.

    Returns:
        `[N]` advantages; 0 for completions without a reward, and where no other of the group has one.
    """
    groups = rewards.view(-1, group_size)
    others = (~groups.isnan()).sum(1, keepdim=True) - 1
    baseline = (groups.nansum(1, keepdim=True) - groups) / others
    advantages = torch.where(others > 0, groups - baseline, torch.zeros_like(groups))
    return torch.nan_to_num(advantages, nan=0.0).flatten()


def in_groups_of_equals(rewards: Tensor, group_size: int) -> Tensor:
    """Which completions belong to a group whose known rewards are equal, so that none is better than another.

    Subtracting the mean does not tell: the float32 mean of eight rewards of 0.7 is not 0.7, and the remainder, divided
    by a standard deviation of almost 0, is an advantage that Adam turns into a full step.

    Args:
        rewards: `[N]` rewards, group by group; NaN where there is none.
        group_size: Completions of a group.

    Returns:
        `[N]` booleans.
    """
    groups = rewards.view(-1, group_size)
    lowest = groups.nan_to_num(torch.inf, posinf=torch.inf, neginf=-torch.inf).amin(1)
    highest = groups.nan_to_num(-torch.inf, posinf=torch.inf, neginf=-torch.inf).amax(1)
    equal = highest - lowest <= EQUAL_REWARDS * torch.maximum(lowest.abs(), highest.abs())
    return equal.repeat_interleave(group_size)


def token_rewards(rewards: Tensor, mask: Tensor, kl: Tensor | None, kl_coef: float) -> Tensor:
    """The reward of each token: the completion's reward at its last token, less the KL penalty at every token.

    Args:
        rewards: `[B]` rewards of the completions; not NaN where the mask counts anything.
        mask: `[B, T]` 1 for tokens that count; they come first.
        kl: `[B, T]` log-ratio of policy to base at each sampled token, the estimator k1; None for no penalty.
        kl_coef: Its weight.

    Returns:
        `[B, T]` rewards, 0 where the mask is.
    """
    found = torch.zeros_like(mask, dtype=torch.float32) if kl is None else -kl_coef * kl.float() * mask
    counted = mask.any(1)
    last = (mask.sum(1) - 1).clamp(min=0).long()
    found[torch.arange(len(mask)), last] += torch.where(counted, rewards.float(), 0.0)
    return found


def generalized_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """GAE (arXiv 1506.02438), backwards from the last token; what follows it is worth nothing.

    `delta_t = r_t + gamma V_(t+1) - V_t` and `A_t = delta_t + gamma lambda A_(t+1)`.

    Args:
        rewards: `[B, T]` rewards of the tokens.
        values: `[B, T]` value of the state before each token.
        mask: `[B, T]` 1 for tokens that count; they come first.
        gamma: Discount.
        gae_lambda: Lambda.

    Returns:
        `[B, T]` advantages and returns (advantage plus value), 0 where the mask is.
    """
    values = values * mask
    advantages = torch.zeros_like(values)
    following = torch.zeros_like(values[:, 0])
    for place in reversed(range(values.shape[1])):
        after = values[:, place + 1] if place + 1 < values.shape[1] else torch.zeros_like(following)
        delta = rewards[:, place] + gamma * after - values[:, place]
        following = (delta + gamma * gae_lambda * following) * mask[:, place]
        advantages[:, place] = following
    return advantages, (advantages + values) * mask


def whitened(advantages: Tensor, mask: Tensor) -> Tensor:
    """Advantages of mean 0 and variance 1 over all tokens that count, 0 elsewhere.

    The variance is the unbiased one, and 1e-8 is added to it, as in TRL's `masked_whiten`. Equal advantages are all 0.
    """
    counted = advantages[mask.bool()]
    if len(counted) < 2 or counted.max() - counted.min() <= EQUAL_REWARDS * counted.abs().max():
        return torch.zeros_like(advantages)
    return (advantages - counted.mean()) * torch.rsqrt(counted.var() + 1e-8) * mask
