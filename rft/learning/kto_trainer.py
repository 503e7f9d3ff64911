"""KTO on single completions, desirable or undesirable: sampled and graded ones, or recorded ones with a label."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from rft.config.learners.kto import KtoLearnerConfig
from rft.data.pair_selection import desirability
from rft.learning.preference_losses import kto_loss
from rft.learning.preference_trainer import Loss, PreferenceTrainer

LABEL_LIMIT = 0.5
"""Least reward of a desirable recorded completion; undesirable ones have reward 0, desirable ones 1."""


class KtoTrainer(PreferenceTrainer):
    """PreferenceTrainer with KTO's loss. TRL's KTOTrainer takes only recorded completions.

    Args:
        arguments: Arguments of PreferenceTrainer.
    """

    _settings: KtoLearnerConfig

    def _compared(self, batch: dict[str, Any]) -> tuple[Sequence[int], Loss]:
        """Return the desirable and undesirable completions, and their loss."""
        rewards, _ = self._rewards_and_lengths(batch)
        is_recorded = self._settings.completions == "recorded"
        size, least = self.num_generations, LABEL_LIMIT if is_recorded else self._settings.desirable_reward
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
            divergence=self._divergence(batch) if is_recorded else None,
        )
        return [*desirable, *undesirable], loss

    def _divergence(self, batch: dict[str, Any]) -> Tensor:
        """Estimate the divergence of the policy from the start: the mean log-ratio of completions that others got.

        Each prompt is paired with the completion of the row before it, as in the paper (section 4.1) and in TRL. A pair
        that exceeds the model's context is left out.
        """
        mismatched = {name: batch[name] for name in ("prompt_ids", "prompt_mask")}
        mismatched |= {name: batch[name].roll(1, dims=0) for name in ("completion_ids", "completion_mask")}
        lengths = mismatched["prompt_mask"].sum(1) + mismatched["completion_mask"].sum(1)
        context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        rows = [row for row, length in enumerate(lengths.tolist()) if context is None or length <= context]
        ratios_n = self._log_ratios(mismatched, rows)
        return ratios_n[rows].mean() if rows else ratios_n.new_zeros(())
