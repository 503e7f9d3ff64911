"""Computes advantages from rewards: how much better a completion, or a token, is than expected.

rft computes advantages only here. Names state shapes: a step has N completions of at most T tokens, in consecutive
groups of `group_size` completions of one prompt. The reward of a completion without one is NaN: means ignore it, and
its advantage is 0. In a group of equal rewards, every advantage is exactly 0.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rft.types import EQUAL_REWARDS

SCALE_FLOOR = 1e-4
"""Added to a standard deviation before the division, as in TRL."""
VARIANCE_FLOOR = 1e-8
"""Added to a variance before the division by its root, as in TRL's `masked_whiten`."""


def group_relative(rewards_n: Tensor, group_size: int, *, scale: Literal["group", "batch", "none"] = "group") -> Tensor:
    """Return GRPO's advantages (arXiv 2402.03300): rewards minus their group's mean, divided by a standard deviation.

    The float32 operations and their order are those of TRL's GRPOTrainer.

    Args:
        rewards_n: `[N]` rewards.
        group_size: Completions of a group.
        scale: Standard deviation to divide by: that of the group, of the whole step, or none.

    Returns:
        `[N]` advantages.
    """
    centred_n = _less_group_mean(rewards_n, group_size)
    if scale == "group":
        deviation_n = _standard_deviation(rewards_n.view(-1, group_size), dim=1).repeat_interleave(group_size)
        centred_n = centred_n / (deviation_n + SCALE_FLOOR)
    elif scale == "batch":
        centred_n = centred_n / (_standard_deviation(rewards_n) + SCALE_FLOOR)
    return _with_exact_zeros(centred_n, rewards_n, group_size)


def leave_one_out(rewards_n: Tensor, group_size: int) -> Tensor:
    """Return RLOO's advantages (arXiv 2402.14740): rewards minus the mean of the other rewards of their group.

    Args:
        rewards_n: `[N]` rewards.
        group_size: Completions of a group.

    Returns:
        `[N]` advantages; 0 if no other completion of the group has a reward.
    """
    groups = rewards_n.view(-1, group_size)
    others = (~groups.isnan()).sum(1, keepdim=True) - 1
    baseline = (groups.nansum(1, keepdim=True) - groups) / others
    advantages = torch.where(others > 0, groups - baseline, torch.zeros_like(groups))
    return _with_exact_zeros(advantages.flatten(), rewards_n, group_size)


def reinforce_pp_baseline(rewards_n: Tensor, group_size: int) -> Tensor:
    """Return advantages of REINFORCE++ with baseline (arXiv 2501.03262), normalized over the whole step.

    The advantages are rewards minus their group's mean. Unlike `group_relative(..., scale="batch")`, the standard
    deviation is that of these differences, not of the rewards.

    Args:
        rewards_n: `[N]` rewards.
        group_size: Completions of a group.

    Returns:
        `[N]` advantages.
    """
    centred_n = _less_group_mean(rewards_n, group_size).nan_to_num(0.0)
    return _with_exact_zeros(whitened(centred_n, ~rewards_n.isnan()), rewards_n, group_size)


def best_of_group(
    rewards_n: Tensor, group_size: int, *, min_reward: float | None = None, max_per_group: int = 1
) -> Tensor:
    """Return RAFT's weights (arXiv 2304.06767): 1 for the best completions of a group, 0 for all others.

    Args:
        rewards_n: `[N]` rewards.
        group_size: Completions of a group.
        min_reward: Lowest reward of a completion to select; None sets no limit.
        max_per_group: Number of equally good completions to select, from the first.

    Returns:
        `[N]` weights.
    """
    groups = rewards_n.view(-1, group_size)
    highest = groups.nan_to_num(-torch.inf, posinf=torch.inf, neginf=-torch.inf).amax(1, keepdim=True)
    is_best = groups >= highest - EQUAL_REWARDS * highest.abs()
    if min_reward is not None:
        is_best &= groups >= min_reward
    selected = is_best & (is_best.cumsum(1) <= max_per_group)
    return _with_exact_zeros(selected.float().flatten(), rewards_n, group_size)


def in_groups_of_equals(rewards_n: Tensor, group_size: int) -> Tensor:
    """Return whether each completion belongs to a group of equal rewards, and is therefore no better than others.

    The difference from the mean cannot show this. The float32 mean of eight rewards of 0.7 is not 0.7, and the
    rounding error, divided by a standard deviation of almost 0, is an advantage that Adam turns into a full step.

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
    """Return the rewards of tokens: the completion's reward at its last token, minus the KL penalty at every token.

    Args:
        rewards_n: `[N]` rewards of the completions; not NaN for completions with counted tokens.
        mask_nt: `[N, T]` 1 for counted tokens.
        kl_nt: `[N, T]` log-ratio of policy to base at each sampled token, the estimator k1; None for no penalty.
        kl_coef: Weight of the penalty.

    Returns:
        `[N, T]` rewards, 0 outside the mask.
    """
    token_rewards_nt = (
        torch.zeros_like(mask_nt, dtype=torch.float32) if kl_nt is None else -kl_coef * kl_nt.float() * mask_nt
    )
    counted_n = mask_nt.any(1)
    last_n = (mask_nt.bool() * torch.arange(mask_nt.shape[1], device=mask_nt.device)).amax(1)
    token_rewards_nt[torch.arange(len(mask_nt)), last_n] += torch.where(counted_n, rewards_n.float(), 0.0)
    return token_rewards_nt


def generalized_advantages(
    rewards_nt: Tensor, values_nt: Tensor, mask_nt: Tensor, *, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Return GAE's advantages (arXiv 1506.02438), computed backwards from the last token.

    `delta_t = r_t + gamma V_(t+1) - V_t` and `A_t = delta_t + gamma lambda A_(t+1)`, where t + 1 is the next counted
    token: what an environment writes between two turns takes no time. The value after the last token is 0.

    Args:
        rewards_nt: `[N, T]` rewards of the tokens.
        values_nt: `[N, T]` value of the state before each token.
        mask_nt: `[N, T]` 1 for counted tokens.
        gamma: Discount.
        gae_lambda: Lambda.

    Returns:
        `[N, T]` advantages and returns (advantage plus value), 0 outside the mask.
    """
    values_nt = values_nt * mask_nt
    advantages_nt = torch.zeros_like(values_nt)
    advantage_n, next_value_n = torch.zeros_like(values_nt[:, 0]), torch.zeros_like(values_nt[:, 0])
    for position in reversed(range(values_nt.shape[1])):
        counted_n = mask_nt[:, position].bool()
        delta_n = rewards_nt[:, position] + gamma * next_value_n - values_nt[:, position]
        advantage_n = torch.where(counted_n, delta_n + gamma * gae_lambda * advantage_n, advantage_n)
        next_value_n = torch.where(counted_n, values_nt[:, position], next_value_n)
        advantages_nt[:, position] = advantage_n * counted_n
    return advantages_nt, (advantages_nt + values_nt) * mask_nt


def whitened(advantages: Tensor, mask: Tensor) -> Tensor:
    """Normalize advantages to mean 0 and variance 1 over the mask; others are 0.

    The variance is unbiased, as in TRL's `masked_whiten`. Equal advantages all become 0.

    Args:
        advantages: `[N]`, or `[N, T]` for tokens.
        mask: 1 for counted advantages, in the same shape.

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
    """Return the unbiased standard deviation without NaN values; NaN for a single value."""
    mean = torch.nanmean(values, dim=dim, keepdim=True)
    variance = torch.nanmean((values - mean) ** 2, dim=dim)
    count = (~values.isnan()).sum(dim=dim)
    return torch.sqrt(variance * torch.where(count > 1, count / (count - 1), torch.nan))


def _with_exact_zeros(advantages_n: Tensor, rewards_n: Tensor, group_size: int) -> Tensor:
    """Set advantages without a reward, and those in groups of equal rewards, to exactly 0."""
    return advantages_n.nan_to_num(0.0).masked_fill(in_groups_of_equals(rewards_n, group_size), 0.0)
