"""The purposes of rollouts."""

from __future__ import annotations

from typing import Literal

Phase = Literal[
    "demonstrations",
    "feasibility",
    "pass rate",
    "reference",
    "train",
    "validation",
    "before",
    "before without passages",
    "after",
    "after without passages",
    "test",
]
"""The purpose of a rollout. `reference` is the measurement of guarded validation tasks before the first step; the two
phases without passages are measured for `evaluation.arms`."""
