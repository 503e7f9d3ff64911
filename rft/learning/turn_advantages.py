"""Computes one advantage for each turn of an episode from the rewards of its turns.

The return of a turn is the discounted sum of its own reward and of those after it. The baseline of a group is one
number for all its turns. A baseline for each number of turn would depend on when the policy stops, and so reward or
punish another turn (verl-project/verl#7244). Every episode counts alike in means and deviations, whatever its number of
turns. If all turns of each episode have the same return, as with one reward at the end and no discount, the results are
those of `rft.learning.advantages`.

Names state shapes: a step has N episodes of at most K turns of the policy and T tokens, in consecutive groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from rft.learning.advantages import SCALE_FLOOR, VARIANCE_FLOOR
from rft.types import EQUAL_REWARDS

TurnRewards = Sequence[Sequence[tuple[int, float]]]
"""`[N][K]` the position after the last token of each turn of the policy, and the turn's reward."""


def turn_returns(rewards: TurnRewards, has_reward_n: Tensor, discount: float) -> tuple[Tensor, Tensor]:
    """Return the returns of the turns, and their weights: `sum gamma^(j - t) r_j` over the turns j from t on.

    Args:
        rewards: The rewards by turn.
        has_reward_n: `[N]` whether an episode has a reward.
        discount: Gamma.

    Returns:
        `[N, K]` returns and `[N, K]` weights in float64. The weights of an episode add up to 1, those of an episode
        without a reward are 0.
    """
    most = max(map(len, rewards))
    returns_nk = torch.zeros(len(rewards), most, dtype=torch.float64)
    weights_nk = torch.zeros_like(returns_nk)
    for row, turns in enumerate(rewards):
        following = 0.0
        for turn in reversed(range(len(turns))):
            following = turns[turn][1] + discount * following
            returns_nk[row, turn] = following
        if has_reward_n[row]:
            weights_nk[row, : len(turns)] = 1.0 / len(turns)
    return returns_nk, weights_nk


def group_relative(
    returns_nk: Tensor, weights_nk: Tensor, group_size: int, *, scale: Literal["group", "batch", "none"] = "group"
) -> Tensor:
    """Return `[N, K]` returns minus the mean of their group, divided by a standard deviation."""
    returns, weights = (each.view(-1, group_size * each.shape[1]) for each in (returns_nk, weights_nk))
    centred = returns - _mean(returns, weights)
    if scale == "group":
        centred = centred / (_deviation(returns, weights) + SCALE_FLOOR)
    elif scale == "batch":
        centred = centred / (_deviation(returns.view(1, -1), weights.view(1, -1)) + SCALE_FLOOR)
    return _with_exact_zeros(centred, returns, weights).view_as(returns_nk)


def leave_one_out(returns_nk: Tensor, weights_nk: Tensor, group_size: int) -> Tensor:
    """Return `[N, K]` returns minus the mean of the other episodes of their group."""
    returns, weights = (each.view(-1, group_size * each.shape[1]) for each in (returns_nk, weights_nk))
    own_n = (returns_nk * weights_nk).sum(1)
    known_n = weights_nk.sum(1)
    groups, known = own_n.view(-1, group_size), known_n.view(-1, group_size)
    others = known.sum(1, keepdim=True) - known
    baseline_n = ((groups.sum(1, keepdim=True) - groups) / others).flatten()
    centred = (returns_nk - baseline_n.unsqueeze(1)).view_as(returns)
    return _with_exact_zeros(centred, returns, weights).view_as(returns_nk)


def reinforce_pp_baseline(returns_nk: Tensor, weights_nk: Tensor, group_size: int) -> Tensor:
    """Return `[N, K]` returns minus the mean of their group, normalized over the whole step."""
    returns, weights = (each.view(-1, group_size * each.shape[1]) for each in (returns_nk, weights_nk))
    centred = (returns - _mean(returns, weights)).nan_to_num(0.0)
    step, of_step = centred.view(1, -1), weights.view(1, -1)
    scale = torch.rsqrt(_deviation(step, of_step) ** 2 + VARIANCE_FLOOR)
    normalized = ((step - _mean(step, of_step)) * scale).view_as(returns)
    return _with_exact_zeros(normalized, returns, weights).view_as(returns_nk)


BY_TURN: dict[str, Callable[..., Tensor]] = {
    f"rft.learning.advantages:{function.__name__}": function
    for function in (group_relative, leave_one_out, reinforce_pp_baseline)
}
"""The function for turns, by the function for completions."""


def on_tokens(advantages_nk: Tensor, rewards: TurnRewards, *, width: int) -> Tensor:
    """Return `[N, T]` the advantage of each token's turn; what stands before a turn has that of the turn."""
    advantages_nt = torch.zeros(len(rewards), width)
    for row, turns in enumerate(rewards):
        start = 0
        for turn, (end, _) in enumerate(turns):
            advantages_nt[row, start:end] = advantages_nk[row, turn]
            start = end
    return advantages_nt


def at_turn_ends(rewards: TurnRewards, *, width: int) -> Tensor:
    """Return `[N, T]` the reward of each turn at its last token."""
    rewards_nt = torch.zeros(len(rewards), width)
    for row, turns in enumerate(rewards):
        for end, reward in turns:
            rewards_nt[row, end - 1] += reward
    return rewards_nt


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return `[R, 1]` the weighted mean of each row; NaN without weights."""
    return (values * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True)


def _deviation(values: Tensor, weights: Tensor) -> Tensor:
    """Return `[R, 1]` the unbiased standard deviation of each row, where the weights of an episode add up to 1."""
    squares = (weights * (values - _mean(values, weights).nan_to_num(0.0)) ** 2).sum(1, keepdim=True)
    return torch.sqrt(squares / (weights.sum(1, keepdim=True) - 1))


def _with_exact_zeros(advantages: Tensor, returns: Tensor, weights: Tensor) -> Tensor:
    """Set the advantages without a weight to exactly 0, and those of groups of equal returns or of one episode."""
    counted = weights > 0
    lowest = returns.masked_fill(~counted, torch.inf).amin(1, keepdim=True)
    highest = returns.masked_fill(~counted, -torch.inf).amax(1, keepdim=True)
    equal = highest - lowest <= EQUAL_REWARDS * torch.maximum(lowest.abs(), highest.abs())
    alone = weights.sum(1, keepdim=True) < 1.5
    return advantages.masked_fill(~counted | equal | alone, 0.0).float()
