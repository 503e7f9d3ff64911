"""RAFT: TRL's loss on the best completions alone.

The advantage of a best completion is 1, that of all others 0, and the ratio of new to old probability is 1. The
gradient is therefore that of the log-likelihood. Its divisor counts the tokens of the best completions only.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from rft.learning.group_trainer import GroupTrainer
from rft.learning.micro_batches import trained_mask


class RaftTrainer(GroupTrainer):
    """GroupTrainer that leaves all completions out of the loss that are not selected.

    Args:
        arguments: Arguments of GroupTrainer.
    """

    def _advantages(self, batch: dict[str, Any]) -> Tensor:
        """Return `[N]` advantages, 1 for the best completions; remove all others from `completion_mask`."""
        advantages_n = super()._advantages(batch)
        batch["completion_mask"] = batch["completion_mask"] * (advantages_n > 0).unsqueeze(1)
        batch["num_items_in_batch"] = trained_mask(batch).sum()
        return advantages_n

    def _compare(self, logprobs: Tensor, inputs: dict[str, Any]) -> None:
        """Compare like LeanTrainer, and report the negative log-likelihood; the value of the loss does not show it."""
        super()._compare(logprobs, inputs)
        mask = trained_mask(inputs)
        self._metrics["train"]["nll"].append((-(logprobs * mask).sum() / mask.sum()).item())
