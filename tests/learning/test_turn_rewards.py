"""The rewards of turns on their way to the trainer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

pytest.importorskip("trl")

from rft.learning.trl_seam import _by_turn
from rft.turns import Author, Turn
from rft.types import Grade, Rollout

P, E = Author.POLICY, Author.ENVIRONMENT


@pytest.mark.parametrize(
    ("spans", "reward", "by_turn", "expected"),
    [
        ([(P, 2), (E, 3), (P, 5)], 1.0, (0.25, 0.75), [(2, 0.25), (5, 0.75)]),
        ([(P, 2), (E, 3), (P, 5)], 1.0, (), [(2, 0.0), (5, 1.0)]),
        ([(P, 2), (E, 3), (P, 5)], None, (), [(2, 0.0), (5, 0.0)]),
        ([], 1.0, (), [(5, 1.0)]),
        ([(E, 5)], 1.0, (), [(5, 1.0)]),
        ([(P, 2), (E, 5), (P, 5)], 1.0, (0.25, 0.75), [(2, 1.0)]),
        ([(P, 0), (E, 3), (P, 5)], 1.0, (0.25, 0.75), [(5, 1.0)]),
        ([(P, 0), (E, 5)], 1.0, (1.0,), [(5, 1.0)]),
    ],
)
def test_the_end_and_the_reward_of_each_turn(
    make_rollout: Callable[..., Rollout],
    spans: list[tuple[Author, int]],
    reward: float | None,
    by_turn: tuple[float, ...],
    expected: list[tuple[int, float]],
) -> None:
    """Turns without a token give their reward to the turn before, or else to the one after."""
    starts = [0, *(end for _, end in spans)]
    turns = tuple(
        Turn(author=author, start=start, end=end) for (author, end), start in zip(spans, starts, strict=False)
    )
    rollout = make_rollout("t", 0, completion_ids=(1, 2, 3, 4, 5), logprobs=(-0.1,) * 5)
    grade = Grade(scores={}, reward=reward, turn_rewards=by_turn)
    assert _by_turn(replace(rollout, turns=turns), grade) == expected
