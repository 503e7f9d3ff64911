"""Advantages by hand, and GAE against plain NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from rft.learning.advantages import (
    best_of_group,
    generalized_advantages,
    group_relative,
    in_groups_of_equals,
    leave_one_out,
    reinforce_pp_baseline,
    token_rewards,
    whitened,
)

NAN = math.nan
ROOT_3 = 3**0.5 + 1e-4


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        # Means 0.5 and 1; unbiased deviations of the groups 0.5 and sqrt(3), of all six rewards sqrt(1.375).
        ("none", [0.5, -0.5, 0.0, -1.0, -1.0, 2.0]),
        ("group", [0.5 / 0.5001, -0.5 / 0.5001, 0.0, -1 / ROOT_3, -1 / ROOT_3, 2 / ROOT_3]),
        ("batch", [advantage / (1.375**0.5 + 1e-4) for advantage in (0.5, -0.5, 0.0, -1.0, -1.0, 2.0)]),
    ],
)
def test_group_relative(scale: Any, expected: list[float]) -> None:
    rewards = torch.tensor([1.0, 0.0, 0.5, 0.0, 0.0, 3.0])
    assert group_relative(rewards, 3, scale=scale).tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_rewards_that_are_missing_or_equal_give_exactly_0(scale: Any) -> None:
    rewards = torch.tensor([0.7] * 8 + [NAN] * 8 + [0.1] + [NAN] * 7 + [1.0, 0.0, NAN, NAN, NAN, NAN, NAN, NAN])
    found = group_relative(rewards, 8, scale=scale).tolist()
    assert found[:24] == [0.0] * 24
    assert found[24] == -found[25] > 0.1
    assert found[26:] == [0.0] * 6
    # What is missing counts in no mean.
    known = group_relative(torch.tensor([0.0, 1.0, 1.0]), 3, scale="none").tolist()
    assert group_relative(torch.tensor([0.0, NAN, 1.0, 1.0]), 4, scale="none").tolist() == [known[0], 0.0, *known[1:]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 1, 0, 0] + [0, 0, 1, 0] + [0] * 12),
        ({"max_per_group": 2}, [0, 1, 0, 1] + [0, 0, 1, 0] + [0] * 12),
        ({"min_reward": 0.5, "max_per_group": 9}, [0, 1, 0, 1] + [0] * 16),
    ],
)
def test_best_of_group(options: Any, expected: list[int]) -> None:
    """Groups: two best ones, a negative best one, equal rewards, a single reward, no reward."""
    rewards = [0.0, 0.3 * 3, 0.5, 0.9, -1.0, NAN, -0.5, -2.0, 0.7, 0.7, 0.7, 0.7, NAN, 1.0, NAN, NAN, *[NAN] * 4]
    assert best_of_group(torch.tensor(rewards), 4, **options).tolist() == expected


def test_reinforce_pp_baseline() -> None:
    # Differences 0.5, -0.5, 0, -1, -1, 2: mean 0, sum of squares 6.5, unbiased variance 1.3. A row without a reward and
    # a group of equals, whose differences count as 0: 6.5 / 8.
    rewards = [1.0, 0.0, 0.5, 0.0, 0.0, 3.0]
    differences = [0.5, -0.5, 0.0, -1.0, -1.0, 2.0]
    found = reinforce_pp_baseline(torch.tensor(rewards), 3).tolist()
    assert found == pytest.approx([each / math.sqrt(1.3) for each in differences], rel=1e-6)
    more = reinforce_pp_baseline(torch.tensor([*rewards, 0.7, 0.7, 0.7, NAN, NAN, NAN]), 3).tolist()
    assert more == pytest.approx([each / math.sqrt(6.5 / 8) for each in differences] + [0.0] * 6, rel=1e-6)
    assert more[6:] == [0.0] * 6
    assert reinforce_pp_baseline(torch.tensor([0.7] * 8), 4).tolist() == [0.0] * 8


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        # Others of the first: mean of 0, 0, 0.5 is 1/6; of the second and third: mean of 1, 0, 0.5 is 0.5.
        ([1.0, 0.0, 0.0, 0.5], [5 / 6, -0.5, -0.5, 0.5 - 1 / 3]),
        ([1.0, NAN, 0.0, 0.5], [0.75, 0.0, -0.75, 0.0]),
        ([1.0, NAN, NAN, NAN], [0.0] * 4),
        ([NAN] * 4, [0.0] * 4),
        ([0.5] * 4, [0.0] * 4),
    ],
)
def test_leave_one_out(rewards: list[float], expected: list[float]) -> None:
    assert leave_one_out(torch.tensor(rewards), 4).tolist() == pytest.approx(expected)
    # Two groups do not know of each other.
    both = leave_one_out(torch.tensor([*rewards, 0.0, 1.0, 0.0, 0.0]), 4).tolist()
    assert both == pytest.approx([*expected, -1 / 3, 1.0, -1 / 3, -1 / 3])


@pytest.mark.parametrize("size", [2, 4, 8, 10, 16])
def test_groups_of_equal_rewards_are_known_as_such(size: int) -> None:
    # float32 means of equal numbers are off by a rounding for many of these.
    for number in range(-110, 110):
        equal = torch.full((size,), number / 100)
        different = equal + torch.tensor([0.01] + [0.0] * (size - 1))
        assert in_groups_of_equals(torch.cat([equal, different]), size).tolist() == [True] * size + [False] * size


@pytest.mark.parametrize(
    ("rewards", "equal"),
    [
        ([0.7, NAN, 0.7, NAN], True),
        ([0.7, NAN, NAN, NAN], True),
        ([NAN] * 4, True),
        ([0.7, NAN, 0.7, 0.0], False),
        ([0.3, 0.1 + 0.2, 0.3, 0.3], True),
        ([1e-9, 2e-9, 1e-9, 1e-9], False),
    ],
)
def test_only_known_rewards_are_compared(rewards: list[float], equal: bool) -> None:
    assert in_groups_of_equals(torch.tensor(rewards), 4).tolist() == [equal] * 4


def test_the_reward_stands_at_the_last_token_and_the_penalty_at_every_one() -> None:
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]])
    kl = torch.tensor([[0.5, -1.0, 2.0], [4.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
    rewards = torch.tensor([1.0, 2.0, NAN])
    assert token_rewards(rewards, mask, kl, 0.1).tolist() == [
        pytest.approx([-0.05, 0.1, 1 - 0.2]),
        pytest.approx([2 - 0.4, 0, 0]),
        pytest.approx([0, 0, 0]),
    ]
    assert token_rewards(rewards, mask, None, 0.0).tolist() == [[0, 0, 1], [2, 0, 0], [0, 0, 0]]


def test_what_stands_between_two_turns_takes_no_time() -> None:
    """Tokens outside the mask change nothing: the others are those of a sequence without them."""
    random = torch.Generator().manual_seed(0)
    mask = torch.tensor([[1, 0, 0, 1, 1, 0, 1], [0, 1, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 0]])
    values, kl = torch.randn(2, 3, 7, generator=random)
    rewards = token_rewards(torch.tensor([1.0, 0.5, NAN]), mask, kl, 0.1)
    found = generalized_advantages(rewards, values, mask, gamma=0.9, gae_lambda=0.8)
    for row, reward in ((0, 1.0), (1, 0.5)):
        sampled = mask[row].bool()
        count = int(sampled.sum())
        alone = torch.ones(1, count)
        dense = token_rewards(torch.tensor([reward]), alone, kl[row, sampled][None], 0.1)
        expected = generalized_advantages(dense, values[row, sampled][None], alone, gamma=0.9, gae_lambda=0.8)
        for with_holes, without in zip(found, expected, strict=True):
            assert torch.equal(with_holes[row, sampled], without[0])
            assert not with_holes[row, ~sampled].any()
    assert not found[0][2].any()


def test_gae_by_hand() -> None:
    # gamma 0.9, lambda 0.5, values 1, 2, 4 and a reward of 10 at the end:
    # delta_2 = 10 - 4 = 6, delta_1 = 0.9 x 4 - 2 = 1.6, delta_0 = 0.9 x 2 - 1 = 0.8
    # A_2 = 6, A_1 = 1.6 + 0.45 x 6 = 4.3, A_0 = 0.8 + 0.45 x 4.3 = 2.735
    advantages, returns = generalized_advantages(
        torch.tensor([[0.0, 0.0, 10.0]]),
        torch.tensor([[1.0, 2.0, 4.0]]),
        torch.ones(1, 3),
        gamma=0.9,
        gae_lambda=0.5,
    )
    assert advantages[0].tolist() == pytest.approx([2.735, 4.3, 6.0])
    assert returns[0].tolist() == pytest.approx([3.735, 6.3, 10.0])


@pytest.mark.parametrize(("gamma", "gae_lambda"), [(1.0, 0.95), (0.99, 1.0), (0.9, 0.0)])
def test_gae_against_its_definition(gamma: float, gae_lambda: float) -> None:
    """`A_t = sum_l (gamma lambda)^l delta_(t+l)`, summed forwards for each token alone."""
    random = np.random.default_rng(0)
    lengths, width = [7, 1, 4, 0], 7
    rewards, values = random.normal(size=(2, len(lengths), width))
    mask = np.array([[place < length for place in range(width)] for length in lengths])
    expected = np.zeros_like(values)
    for row, length in enumerate(lengths):
        v = [*values[row, :length], 0.0]
        delta = [rewards[row, t] + gamma * v[t + 1] - v[t] for t in range(length)]
        for t in range(length):
            expected[row, t] = sum((gamma * gae_lambda) ** k * delta[t + k] for k in range(length - t))
    given = (torch.tensor(array * mask) for array in (rewards, values))
    advantages, returns = generalized_advantages(*given, torch.tensor(mask), gamma=gamma, gae_lambda=gae_lambda)
    np.testing.assert_allclose(advantages, expected, atol=1e-12)
    np.testing.assert_allclose(returns, (expected + values) * mask, atol=1e-12)


def test_whitening_counts_no_padding() -> None:
    mask = torch.tensor([[1, 1], [1, 0]])
    found = whitened(torch.tensor([[1.0, 2.0], [6.0, 99.0]]), mask)
    # Mean 3, unbiased variance (4 + 1 + 9) / 2 = 7, as TRL 1.10's masked_whiten has it.
    assert found.flatten().tolist() == pytest.approx([-2 / math.sqrt(7), -1 / math.sqrt(7), 3 / math.sqrt(7), 0.0])
    assert whitened(torch.tensor([[5.0, 9.0]]), torch.tensor([[1, 0]])).tolist() == [[0.0, 0.0]]


def test_equal_advantages_are_whitened_to_exactly_nothing() -> None:
    mask = torch.ones(4, 4)
    mask[3, 2:] = 0
    for number in range(1, 110):
        assert not whitened(torch.full((4, 4), number / 100), mask).any()
