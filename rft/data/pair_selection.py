"""Selects what learners of preferences compare, among the graded completions of one prompt."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from enum import StrEnum

from rft.types import EQUAL_REWARDS


class NoPair(StrEnum):
    """Reason why the completions of a prompt make no pair."""

    TOO_FEW_REWARDS = "fewer than two usable completions"
    EQUAL_REWARDS = "equal rewards"
    SMALL_GAP = "rewards that differ by min_gap or less"


def select_pair(
    rewards: Sequence[float | None], lengths: Sequence[int], *, min_gap: float = 0.0
) -> tuple[int, int] | NoPair:
    """Select the best and the worst completion of a prompt.

    Among equally good and equally bad completions it selects two of similar length, so that the learner does not
    mistake length for quality.

    Args:
        rewards: `[G]` rewards; None for missing ones.
        lengths: `[G]` tokens of each completion.
        min_gap: The rewards must differ by more than this.

    Returns:
        The positions of the chosen and of the rejected completion, or the reason why there are none.
    """
    graded = [(reward, place) for place, reward in enumerate(rewards) if reward is not None]
    if len(graded) < 2:
        return NoPair.TOO_FEW_REWARDS
    lowest, highest = min(graded)[0], max(graded)[0]
    if math.isclose(lowest, highest, rel_tol=EQUAL_REWARDS):
        return NoPair.EQUAL_REWARDS
    rounding = EQUAL_REWARDS * max(abs(lowest), abs(highest))
    if highest - lowest <= min_gap + rounding * (min_gap > 0):
        return NoPair.SMALL_GAP
    best = [place for reward, place in graded if math.isclose(reward, highest, rel_tol=EQUAL_REWARDS)]
    worst = [place for reward, place in graded if math.isclose(reward, lowest, rel_tol=EQUAL_REWARDS)]
    pairs = ((chosen, rejected) for chosen in best for rejected in worst if chosen != rejected)
    return min(pairs, key=lambda pair: (abs(lengths[pair[0]] - lengths[pair[1]]), pair))


def desirability(rewards: Sequence[float | None], *, least: float | None = None) -> list[bool | None]:
    """Return whether the completions of a prompt are desirable; None for those that are neither.

    Args:
        rewards: `[G]` rewards; None for missing ones.
        least: Lowest reward of a desirable completion. None compares with the mean of the rewards: completions as good
            as the mean are neither.
    """
    known = [reward for reward in rewards if reward is not None]
    if least is not None:
        limit = least - EQUAL_REWARDS * abs(least)
        return [None if reward is None else reward >= limit for reward in rewards]
    if not known or math.isclose(min(known), max(known), rel_tol=EQUAL_REWARDS):
        return [None] * len(rewards)
    mean = statistics.fmean(known)
    return [
        None if reward is None or math.isclose(reward, mean, rel_tol=EQUAL_REWARDS) else reward > mean
        for reward in rewards
    ]
