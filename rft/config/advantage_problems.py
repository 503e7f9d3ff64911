"""What is wrong with a user's function for the advantages: it is imported, and called with a few rewards."""

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
"""`[N]` rewards of two groups that the function is called with, and what they are."""


def advantage_problems(advantage: str) -> list[str]:
    """Everything wrong with `learner.advantage=path/to/file.py:function`, one sentence each.

    The function is called as a learner calls it, so this imports torch, which takes seconds.
    """
    given = f"learner.advantage={advantage}"
    if ".py:" not in advantage:
        return [f"{given}: should be 'group', 'rloo', or a function of your own, as path/to/file.py:function"]
    if missing := missing_packages(given, "torch"):
        return [missing]
    try:
        function = find_target(advantage).object
    except ValueError as error:
        return [f"{given}: {error}"]
    if not callable(function):
        return [f"{given}: is no function but {type(function).__name__}"]
    import torch

    for name, rewards in TRIALS.items():
        rewards_n = torch.tensor(rewards)
        try:
            advantages_n = torch.as_tensor(function(rewards_n.clone(), GROUP_SIZE), dtype=torch.float32)
        except Exception as error:  # whatever the function raises is the answer
            return [f"{given}: called with {name}, it failed: {describe_error(error, '')}"]
        if advantages_n.shape != rewards_n.shape:
            return [
                f"{given}: called with {name}, it returned the shape {list(advantages_n.shape)}; it must return one "
                f"advantage for each reward, {list(rewards_n.shape)}"
            ]
        if not advantages_n[~rewards_n.isnan()].isfinite().all():
            return [f"{given}: called with {name}, it returned {advantages_n.tolist()}; advantages must be finite"]
    return []
