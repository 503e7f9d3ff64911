"""DPO on graded groups: the best completion of each group against the worst."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from rft.config.learners.dpo import DpoLearnerConfig
from rft.data.pair_selection import NoPair, select_pair
from rft.learning.preference_losses import dpo_loss
from rft.learning.preference_trainer import Loss, PreferenceTrainer


class DpoTrainer(PreferenceTrainer):
    """PreferenceTrainer with DPO's loss. TRL's DPOTrainer takes only recorded pairs.

    Args:
        arguments: Arguments of PreferenceTrainer.
    """

    _settings: DpoLearnerConfig

    def _compared(self, batch: dict[str, Any]) -> tuple[Sequence[int], Loss]:
        """Return the chosen and rejected completions, and their loss."""
        rewards, lengths = self._rewards_and_lengths(batch)
        size = self.num_generations
        pairs: list[tuple[int, int]] = []
        counts = Counter(dict.fromkeys(NoPair, 0))
        for first in range(0, len(rewards), size):
            group = slice(first, first + size)
            pair = select_pair(rewards[group], lengths[group], min_gap=self._settings.min_gap)
            if isinstance(pair, NoPair):
                counts[pair] += 1
            else:
                pairs.append((first + pair[0], first + pair[1]))
        self._report({f"pairs/{reason.name.lower()}": float(count) for reason, count in counts.items()})
        self._report({"pairs/learned_from": float(len(pairs))})
        if pairs:
            for side, role in enumerate(("chosen", "rejected")):
                self._report({f"dpo/{role}_tokens": sum(lengths[pair[side]] for pair in pairs) / len(pairs)})
        return [row for pair in pairs for row in pair], partial(dpo_loss, pairs=pairs, beta=self._settings.beta)
