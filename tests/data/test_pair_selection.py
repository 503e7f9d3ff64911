"""What is compared among the completions of a prompt."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rft.data.pair_selection import NoPair, desirability, select_pair


@pytest.mark.parametrize(
    ("rewards", "lengths", "min_gap", "expected"),
    [
        ([0.2, 0.9, -1.0, 0.5], [5, 5, 5, 5], 0.0, (1, 2)),
        ([None, 1.0, None, 0.0], [1, 9, 9, 1], 0.0, (1, 3)),
        # Two best of 4 and 9 tokens, two worst of 20 and 8: the last of both are the most alike.
        ([1.0, 0.0, 1.0, 0.0], [4, 20, 9, 8], 0.0, (2, 3)),
        # Equally alike: the first ones.
        ([0.0, 1.0, 0.0, 1.0], [3, 3, 3, 3], 0.0, (1, 0)),
        # 0.1 + 0.2 is as good as 0.3.
        ([0.3, 0.0, 0.1 + 0.2], [7, 2, 2], 0.0, (2, 1)),
        ([1.0, 0.5], [3, 3], 0.4, (0, 1)),
        ([1.0, 0.5], [3, 3], 0.5, NoPair.SMALL_GAP),
        # 0.9 - 0.6 is 0.30000000000000004 in floating point.
        ([0.9, 0.6], [3, 3], 0.3, NoPair.SMALL_GAP),
        ([0.3, 0.1 + 0.2], [3, 3], 0.0, NoPair.EQUAL_REWARDS),
        ([0.0, 0.0, None], [3, 3, 3], 0.0, NoPair.EQUAL_REWARDS),
        ([None, 1.0, None], [3, 3, 3], 0.0, NoPair.TOO_FEW_REWARDS),
        ([], [], 0.0, NoPair.TOO_FEW_REWARDS),
    ],
)
def test_select_pair(
    rewards: Sequence[float | None], lengths: Sequence[int], min_gap: float, expected: tuple[int, int] | NoPair
) -> None:
    assert select_pair(rewards, lengths, min_gap=min_gap) == expected


@pytest.mark.parametrize(
    ("rewards", "least", "expected"),
    [
        ([1.0, 0.0, None, 0.5], None, [True, False, None, None]),
        ([0.2, 0.2, 0.2, 1.0], None, [False, False, False, True]),
        ([0.3, 0.1 + 0.2, None], None, [None, None, None]),
        ([None, None], None, [None, None]),
        ([0.3, 0.1 + 0.2, None, 0.29], 0.3, [True, True, None, False]),
        ([0.0, 0.0], 0.5, [False, False]),
    ],
)
def test_desirability(rewards: Sequence[float | None], least: float | None, expected: list[bool | None]) -> None:
    assert desirability(rewards, least=least) == expected
