"""From rewards to advantages: how much better a completion, or a token, is than expected.

The only place where rft computes advantages. Shapes are in the names: a step has N completions of at most T tokens, in
groups of `group_size` completions of one prompt that follow each other. A completion without a reward has NaN: it
counts in no mean, and its advantage is 0. In a group of equal rewards every advantage is exactly 0.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rft.types import EQUAL_REWARDS

SCALE_FLOOR = 1e-4
"""Added to a standard deviation before it divides, as in TRL."""
VARIANCE_FLOOR = 1e-8
"""Added to a variance before its root divides, as in TRL's `masked_whiten`."""


def group_relative(rewards_n: Tensor, group_size: int, *, scale: Literal["group", "batch", "none"] = "group") -> Tensor:
    """GRPO (arXiv 2402.03300): each reward less the mean of its group, divided by a standard deviation.

    The float32 operations and their order are those of TRL's GRPOTrainer.

    Args:
        rewards_n: `[N]` rewards.
        group_size: Completions of a group.
        scale: Whose standard deviation divides: that of the group, of the whole step, or none.

    Returns:
        `[N]` advantages.
    """
    centred_n = _less_group_mean(rewards_n, group_size)
    if scale == "group":
        deviation_n = _standard_deviation(rewards_n.view(-1, group_size), dim=1).repeat_interleave(group_size)
        centred_n = centred_n / (deviation_n + SCALE_FLOOR)
    elif scale == "batch":
        centred_n = centred_n / (_standard_deviation(rewards_n) + SCALE_FLOOR)
    return _settled(centred_n, rewards_n, group_size)


def leave_one_out(rewards_n: Tensor, group_size: int) -> Tensor:
    """RLOO (arXiv 2402.14740): each reward less the mean of the others of its group.

    Args:
        rewards_n: `[N]` rewards.
        group_size: Completions of a group.

    Returns:
        `[N]` advantages; 0 where no other completion of the group has a reward.
    """
    groups = rewards_n.view(-1, group_size)
    others = (~groups.isnan()).sum(1, keepdim=True) - 1
    baseline = (groups.nansum(1, keepdim=True) - groups) / others
    advantages = torch.where(others > 0, groups - baseline, torch.zeros_like(groups))
    return _settled(advantages.flatten(), rewards_n, group_size)


def reinforce_pp_baseline(rewards_n: Tensor, group_size: int) -> Tensor:
    """REINFORCE++ with baseline (arXiv 2501.03262): rewards less their group's mean, normalized over the whole step.

    Unlike `group_relative(..., scale="batch")`, the standard deviation is that of the differences, not of the rewards.

    Args:
        rewards_n: `[N]` rewards.
        group_size: Completions of a group.

    Returns:
        `[N]` advantages.
    """
    centred_n = _less_group_mean(rewards_n, group_size).nan_to_num(0.0)
    return _settled(whitened(centred_n, ~rewards_n.isnan()), rewards_n, group_size)


def in_groups_of_equals(rewards_n: Tensor, group_size: int) -> Tensor:
    """Which completions belong to a group whose known rewards are equal, so that none is better than another.

    Subtracting the mean does not tell: the float32 mean of eight rewards of 0.7 is not 0.7, and the remainder, divided
    by a standard deviation of almost 0, is an advantage that Adam turns into a full step.

    Args:
        rewards_n: `[N]` rewards.
        group_size: Completions of a group.

    Returns:
        `[N]` booleans.
    """
    groups = rewards_n.view(-1, group_size)
    lowest = groups.nan_to_num(torch.inf, posinf=torch.inf, neginf=-torch.inf).amin(1)
    highest = groups.nan_to_num(-torch.inf, posinf=torch.inf, neginf=-torch.inf).amax(1)
    equal = highest - lowest <= EQUAL_REWARDS * torch.maximum(lowest.abs(), highest.abs())
    return equal.repeat_interleave(group_size)


def token_rewards(rewards_n: Tensor, mask_nt: Tensor, kl_nt: Tensor | None, kl_coef: float) -> Tensor:
    """The reward of each token: the completion's reward at its last token, less the KL penalty at every token.

    Args:
        rewards_n: `[N]` rewards of the completions; not NaN where the mask counts anything.
        mask_nt: `[N, T]` 1 for tokens that count; they come first.
        kl_nt: `[N, T]` log-ratio of policy to base at each sampled token, the estimator k1; None for no penalty.
        kl_coef: Its weight.

    Returns:
        `[N, T]` rewards, 0 where the mask is.
    """
    token_rewards_nt = (
        torch.zeros_like(mask_nt, dtype=torch.float32) if kl_nt is None else -kl_coef * kl_nt.float() * mask_nt
    )
    counted_n = mask_nt.any(1)
    last_n = (mask_nt.sum(1) - 1).clamp(min=0).long()
    token_rewards_nt[torch.arange(len(mask_nt)), last_n] += torch.where(counted_n, rewards_n.float(), 0.0)
    return token_rewards_nt


def generalized_advantages(
    rewards_nt: Tensor, values_nt: Tensor, mask_nt: Tensor, *, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """GAE (arXiv 1506.02438), backwards from the last token; what follows it is worth nothing.

    `delta_t = r_t + gamma V_(t+1) - V_t` and `A_t = delta_t + gamma lambda A_(t+1)`.

    Args:
        rewards_nt: `[N, T]` rewards of the tokens.
        values_nt: `[N, T]` value of the state before each token.
        mask_nt: `[N, T]` 1 for tokens that count; they come first.
        gamma: Discount.
        gae_lambda: Lambda.

    Returns:
        `[N, T]` advantages and returns (advantage plus value), 0 where the mask is.
    """
    values_nt = values_nt * mask_nt
    advantages_nt = torch.zeros_like(values_nt)
    following_n = torch.zeros_like(values_nt[:, 0])
    for place in reversed(range(values_nt.shape[1])):
        after_n = values_nt[:, place + 1] if place + 1 < values_nt.shape[1] else torch.zeros_like(following_n)
        delta_n = rewards_nt[:, place] + gamma * after_n - values_nt[:, place]
        following_n = (delta_n + gamma * gae_lambda * following_n) * mask_nt[:, place]
        advantages_nt[:, place] = following_n
    return advantages_nt, (advantages_nt + values_nt) * mask_nt


def whitened(advantages: Tensor, mask: Tensor) -> Tensor:
    """Advantages of mean 0 and variance 1 over all that count, 0 elsewhere.

    The variance is the unbiased one, as in TRL's `masked_whiten`. Equal advantages are all 0.

    Args:
        advantages: `[N]`, or `[N, T]` for each token.
        mask: Of the same shape, 1 for those that count.

    Returns:
        Advantages of the same shape.
    """
    counted = advantages[mask.bool()]
    if len(counted) < 2 or counted.max() - counted.min() <= EQUAL_REWARDS * counted.abs().max():
        return torch.zeros_like(advantages)
    return (advantages - counted.mean()) * torch.rsqrt(counted.var() + VARIANCE_FLOOR) * mask


def _less_group_mean(rewards_n: Tensor, group_size: int) -> Tensor:
    return rewards_n - torch.nanmean(rewards_n.view(-1, group_size), dim=1).repeat_interleave(group_size)


def _standard_deviation(values: Tensor, dim: int | None = None) -> Tensor:
    """The unbiased standard deviation of what is not NaN; NaN where that is a single value."""
    mean = torch.nanmean(values, dim=dim, keepdim=True)
    variance = torch.nanmean((values - mean) ** 2, dim=dim)
    count = (~values.isnan()).sum(dim=dim)
    return torch.sqrt(variance * torch.where(count > 1, count / (count - 1), torch.nan))


def _settled(advantages_n: Tensor, rewards_n: Tensor, group_size: int) -> Tensor:
    """Advantages with exact zeros: without a reward, and in groups of equal rewards."""
    return advantages_n.nan_to_num(0.0).masked_fill(in_groups_of_equals(rewards_n, group_size), 0.0)
