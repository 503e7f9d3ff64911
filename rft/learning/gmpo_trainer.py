"""GMPO: TRL's loss with rft's advantages and micro-batches.

Assumptions about TRL 1.16, besides those of trl_trainer.py:
- `GMPOTrainer` overrides only `_compute_loss` of GRPOTrainer;
- its loss is the mean over the rows of a micro-batch, divided by the number of micro-batches;
- it reads `advantages` from its inputs after `_get_per_token_logps_and_entropies` has returned;
- it ignores `importance_sampling_ratio`.

rft therefore multiplies the advantages by the correction for the sampler, one weight for each completion. The loss is
linear in the advantage for weights of 0 and more.
"""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor

from rft.learning.group_trainer import GroupTrainer

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="You are importing from 'trl.experimental'")  # TRL is pinned
    from trl.experimental.gmpo import GMPOTrainer


class GmpoTrainer(GroupTrainer, GMPOTrainer):  # type: ignore[misc]  # TRL is not followed
    """GroupTrainer with the loss of TRL's GMPOTrainer.

    Args:
        arguments: Arguments of GroupTrainer.
    """

    def _compare(self, logprobs: Tensor, inputs: dict[str, Any]) -> None:
        """Compare like LeanTrainer, once for each micro-batch, and multiply the advantages by the weights."""
        super()._compare(logprobs, inputs)
        if self._corrects:
            inputs["advantages"] = inputs["advantages"] * inputs["importance_sampling_ratio"].squeeze(1)
