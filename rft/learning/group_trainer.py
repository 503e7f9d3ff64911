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
from rft.learning.micro_batches import trained_mask
from rft.learning.trl_trainer import LeanTrainer
from rft.learning.turn_advantages import BY_TURN, on_tokens, turn_returns


class GroupTrainer(LeanTrainer):
    """LeanTrainer with one advantage for each completion.

    Args:
        learner: The algorithm's settings, which name the advantage function.
        turn_discount: Discount by turn for one advantage for each turn; None for one for each completion.
        arguments: Arguments of LeanTrainer.
    """

    def __init__(self, *, learner: GroupLearnerConfig, turn_discount: float | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._turn_discount = turn_discount
        target, options = learner.advantage_function()
        self._target, self._options = target, options
        self._compute = partial(find_target(target).object if ".py:" in target else resolve_name(target), **options)

    def _advantages(self, batch: dict[str, Any]) -> Tensor:
        """Return `[N]` advantages of the step's rewards, 0 for completions without a reward; `[N, T]` by turn.

        Raises:
            LearnError: The function returned a wrong shape, or a number that is not finite.
        """
        if self._turn_discount is not None:
            return self._by_turn(batch, self._turn_discount)
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

    def _by_turn(self, batch: dict[str, Any], discount: float) -> Tensor:
        """Return `[N, T]` advantages: the tokens of a turn share its advantage."""
        returns_nk, weights_nk = turn_returns(self._turn_rewards, ~self._rewards.isnan(), discount)
        compute = BY_TURN[self._target]
        advantages_nk = compute(returns_nk, weights_nk, self.num_generations, **self._options)
        mask_nt = trained_mask(batch)
        return on_tokens(advantages_nk, self._turn_rewards, width=mask_nt.shape[1]).to(mask_nt.device) * mask_nt
