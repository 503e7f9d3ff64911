"""One advantage for each turn, by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from rft.learning import advantages
from rft.learning.turn_advantages import (
    BY_TURN,
    at_turn_ends,
    group_relative,
    leave_one_out,
    on_tokens,
    reinforce_pp_baseline,
    turn_returns,
)

# Two episodes of a group: three turns with the rewards 1, 0, 2, and one turn with the reward 1. With a discount of 0.5
# the returns are 1.5, 1, 2 and 1; the first episode's mean return is 1.5, so the group's mean is 1.25.
EPISODES = [[(2, 1.0), (5, 0.0), (9, 2.0)], [(4, 1.0)]]
CENTRED = [[0.25, -0.25, 0.75], [-0.25, 0.0, 0.0]]
VARIANCE = (0.25**2 + 0.25**2 + 0.75**2) / 3 + 0.25**2
"""Each episode counts once; two episodes leave one degree of freedom."""
KNOWN = torch.tensor([True, True])


def of(found: torch.Tensor) -> list[list[float]]:
    return [[pytest.approx(value, abs=1e-6) for value in row] for row in found.tolist()]


def test_a_return_is_the_discounted_sum_from_its_turn_on() -> None:
    returns, weights = turn_returns(EPISODES, KNOWN, 0.5)
    assert returns.tolist() == [[1.5, 1.0, 2.0], [1.0, 0.0, 0.0]]
    assert weights.tolist() == [[1 / 3] * 3, [1.0, 0.0, 0.0]]
    assert turn_returns(EPISODES, KNOWN, 1.0)[0].tolist() == [[3.0, 2.0, 2.0], [1.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("scale", "divisor"), [("none", 1.0), ("group", VARIANCE**0.5 + 1e-4), ("batch", VARIANCE**0.5 + 1e-4)]
)
def test_group_relative(scale: Any, divisor: float) -> None:
    found = group_relative(*turn_returns(EPISODES, KNOWN, 0.5), 2, scale=scale)
    assert of(found) == [[value / divisor for value in row] for row in CENTRED]


def test_leave_one_out() -> None:
    """The baseline of an episode is the mean return of the other one: 1 and 1.5."""
    assert of(leave_one_out(*turn_returns(EPISODES, KNOWN, 0.5), 2)) == [[0.5, 0.0, 1.0], [-0.5, 0.0, 0.0]]


def test_reinforce_pp_baseline() -> None:
    found = reinforce_pp_baseline(*turn_returns(EPISODES, KNOWN, 0.5), 2)
    assert of(found) == [[value * (VARIANCE + 1e-8) ** -0.5 for value in row] for row in CENTRED]


@pytest.mark.parametrize("name", BY_TURN)
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_one_reward_at_the_end_gives_the_advantages_of_whole_completions(name: str, scale: Any) -> None:
    whole = getattr(advantages, name.rpartition(":")[2])
    options = {"scale": scale} if name.endswith("group_relative") else {}
    rewards = [0.0, 1.0, math.nan, 0.25, 1.0, 1.0, 1.0, 1.0, -2.0, 0.5, 1.0, 0.0]
    lengths = [1, 3, 2, 2, 1, 2, 3, 4, 4, 1, 1, 2]
    episodes = [
        [(turn + 1, 0.0 if turn + 1 < length or math.isnan(reward) else reward) for turn in range(length)]
        for reward, length in zip(rewards, lengths, strict=True)
    ]
    expected = whole(torch.tensor(rewards), 4, **options).tolist()
    found = BY_TURN[name](*turn_returns(episodes, ~torch.tensor(rewards).isnan(), 1.0), 4, **options)
    for row, advantage, length in zip(found.tolist(), expected, lengths, strict=True):
        assert row[:length] == pytest.approx([advantage] * length, abs=1e-6)
        assert row[length:] == [0.0] * (4 - length)


def test_the_baseline_does_not_depend_on_when_the_policy_stops() -> None:
    """Every turn of a group has the same baseline, also a turn that no other episode has (verl-project/verl#7244)."""
    returns, weights = turn_returns([[(1, 1.0), (2, 1.0), (3, 1.0)], [(1, 1.0)]], KNOWN, 1.0)
    found = group_relative(returns, weights, 2, scale="none")
    baselines = (returns - found)[weights > 0]
    assert baselines.tolist() == pytest.approx([1.5] * 4), "of the mean returns 2 and 1"


@pytest.mark.parametrize("compute", BY_TURN.values())
def test_episodes_without_a_reward_or_alone_or_equal_get_exactly_0(compute: Any) -> None:
    nothing = torch.tensor([True, False])
    assert compute(*turn_returns([[(1, 1.0), (2, 0.0)], [(1, 0.0)]], nothing, 1.0), 2).tolist() == [[0.0, 0.0]] * 2
    assert compute(*turn_returns([[(1, 0.0), (2, 0.7)], [(1, 0.7)]], KNOWN, 1.0), 2).tolist() == [[0.0, 0.0]] * 2
    assert compute(*turn_returns([[(1, 0.0)], [(1, 0.0)]], ~KNOWN, 1.0), 2).tolist() == [[0.0]] * 2


def test_tokens() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 0.0, 0.0]])
    assert on_tokens(values, [[(1, 0), (3, 0), (4, 0)], [(2, 0)]], width=5).tolist() == [
        [1.0, 2.0, 2.0, 3.0, 0.0],
        [4.0, 4.0, 0.0, 0.0, 0.0],
    ]
    assert at_turn_ends([[(1, 0.5), (4, 1.0)], [(2, -1.0)]], width=4).tolist() == [
        [0.5, 0.0, 0.0, 1.0],
        [0.0, -1.0, 0.0, 0.0],
    ]
