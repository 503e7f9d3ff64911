"""KTO on graded groups: single completions that are desirable or undesirable."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from rft.config.learners.kto import KtoLearnerConfig
from rft.data.pair_selection import desirability
from rft.learning.preference_losses import kto_loss
from rft.learning.preference_trainer import Loss, PreferenceTrainer


class KtoTrainer(PreferenceTrainer):
    """PreferenceTrainer with KTO's loss. TRL's KTOTrainer estimates the divergence from recorded completions instead.

    Args:
        arguments: Arguments of PreferenceTrainer.
    """

    _settings: KtoLearnerConfig

    def _compared(self, batch: dict[str, Any]) -> tuple[Sequence[int], Loss]:
        """Return the desirable and undesirable completions, and their loss."""
        rewards, _ = self._rewards_and_lengths(batch)
        size, least = self.num_generations, self._settings.desirable_reward
        flags: list[bool | None] = []
        for first in range(0, len(rewards), size):
            flags += desirability(rewards[first : first + size], least=least)
        desirable, undesirable = ([row for row, flag in enumerate(flags) if flag is kind] for kind in (True, False))
        self._report(
            {
                "kto/desirable": float(len(desirable)),
                "kto/undesirable": float(len(undesirable)),
                "kto/left_out": float(flags.count(None)),
            }
        )
        loss = partial(
            kto_loss,
            desirable=desirable,
            undesirable=undesirable,
            beta=self._settings.beta,
            desirable_weight=self._settings.desirable_weight,
            undesirable_weight=self._settings.undesirable_weight,
        )
        return [*desirable, *undesirable], loss
