"""`loop.pass_rate`: the difficulty of the training tasks."""

from __future__ import annotations

from rft.config.fields import Number, Positive, Section


class PassRateConfig(Section):
    """Selects training tasks by the mean reward that the base model gets for them before the first step."""

    completions_per_task: Positive = 4
    """Completions sampled for each training task to measure its mean reward."""
    min: Number = 0.1
    """Lowest mean reward; tasks below are too hard and are excluded."""
    max: Number = 0.9
    """Highest mean reward; tasks above are too easy and are excluded."""
