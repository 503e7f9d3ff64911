"""GMPO: TRL's loss of it, with rft's advantages and micro-batches.

What is relied on, for TRL 1.16, beside what trl_trainer.py says: `GMPOTrainer` overrides only `_compute_loss` of
GRPOTrainer, its loss is the mean over the rows of a micro-batch divided by the number of micro-batches, it reads
`advantages` of its inputs after `_get_per_token_logps_and_entropies` has returned, and it ignores
`importance_sampling_ratio`. So the correction for the sampler, one weight for each completion, goes into the advantage:
the loss is linear in it, and a weight is never negative.
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
    """GroupTrainer around the loss of TRL's GMPOTrainer.

    Args:
        arguments: Of GroupTrainer.
    """

    def _compare(self, logprobs: Tensor, inputs: dict[str, Any]) -> None:
        """As LeanTrainer's, once for each micro-batch; the weight of a completion goes into its advantage."""
        super()._compare(logprobs, inputs)
        if self._corrects:
            inputs["advantages"] = inputs["advantages"] * inputs["importance_sampling_ratio"].squeeze(1)
