"""The trainer of algorithms that compare the completions of one prompt. Turns rewards into advantages."""

from __future__ import annotations

from functools import partial
from pkgutil import resolve_name
from typing import Any

import torch
from torch import Tensor

from rft.config.learners.group import GroupLearnerConfig
from rft.errors import LearnError
from rft.grading.loading.targets import find_target
from rft.learning.trl_trainer import LeanTrainer


class GroupTrainer(LeanTrainer):
    """LeanTrainer with one advantage for each completion.

    Args:
        learner: The algorithm's settings, which name the advantage function.
        arguments: Arguments of LeanTrainer.
    """

    def __init__(self, *, learner: GroupLearnerConfig, **arguments: Any) -> None:
        super().__init__(**arguments)
        target, options = learner.advantage_function()
        self._target = target
        self._compute = partial(find_target(target).object if ".py:" in target else resolve_name(target), **options)

    def _advantages(self, batch: dict[str, Any]) -> Tensor:
        """Return `[N]` advantages of the step's rewards, 0 for completions without a reward.

        Raises:
            LearnError: The function returned a wrong shape, or a number that is not finite.
        """
        rewards_n = self._rewards
        computed_n = torch.as_tensor(self._compute(rewards_n.clone(), self.num_generations), dtype=torch.float32)
        if computed_n.shape != rewards_n.shape:
            raise LearnError(
                f"learner.advantage={self._target}: returned the shape {list(computed_n.shape)} for rewards of shape "
                f"{list(rewards_n.shape)}; the function must return one advantage for each reward"
            )
        advantages_n = computed_n.to(rewards_n.device).masked_fill(rewards_n.isnan(), 0.0)
        if not advantages_n.isfinite().all():
            raise LearnError(
                f"learner.advantage={self._target}: returned {advantages_n.tolist()}; all advantages must be finite"
            )
        return advantages_n
