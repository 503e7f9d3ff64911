"""Checks a user's advantage function: imports it and calls it with a few rewards."""

from __future__ import annotations

import math

from rft.grading.loading.targets import find_target
from rft.grading.normalise import describe_error
from rft.imports import missing_packages

GROUP_SIZE = 4
"""Completions of a group in the trials."""
TRIALS = {
    "rewards that differ": (1.0, 0.0, 0.0, 0.5, 0.25, 0.75, 1.0, 0.0),
    "equal rewards": (0.5,) * 8,
    "missing rewards": (1.0, math.nan, 0.0, 0.5, math.nan, math.nan, math.nan, math.nan),
}
"""`[N]` rewards of two groups for a trial call, by description."""


def advantage_problems(advantage: str) -> list[str]:
    """Return the problems of `learner.advantage=path/to/file.py:function`, one sentence each.

    The call is like that of a learner, so it imports torch, which takes seconds.
    """
    given = f"learner.advantage={advantage}"
    if ".py:" not in advantage:
        return [f"{given}: should be 'group', 'rloo', or your own function, such as path/to/file.py:function"]
    if missing := missing_packages(given, "torch"):
        return [missing]
    try:
        function = find_target(advantage).object
    except ValueError as error:
        return [f"{given}: {error}"]
    if not callable(function):
        return [f"{given}: should be a function, not {type(function).__name__}"]
    import torch

    for name, rewards in TRIALS.items():
        rewards_n = torch.tensor(rewards)
        try:
            advantages_n = torch.as_tensor(function(rewards_n.clone(), GROUP_SIZE), dtype=torch.float32)
        except Exception as error:  # the function may raise anything
            return [f"{given}: failed for {name}: {describe_error(error, '')}"]
        if advantages_n.shape != rewards_n.shape:
            return [
                f"{given}: returned the shape {list(advantages_n.shape)} for {name}; the function must return one "
                f"advantage for each reward, {list(rewards_n.shape)}"
            ]
        if not advantages_n[~rewards_n.isnan()].isfinite().all():
            return [f"{given}: returned {advantages_n.tolist()} for {name}; all advantages must be finite"]
    return []
