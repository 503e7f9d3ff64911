"""Guards against a learner that trains nothing. No setting disables them.

A trainer whose adapter was loaded frozen runs to its end with plausible metrics (huggingface/trl#6700).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from rft.errors import LearnError
from rft.learning.ranks import checksum


class TrainingGuard:
    """Requires trainable weights, and that the first optimizer step with a gradient changes them.

    Args:
        trained: Returns the trained weights, which hold those of a checkpoint already.

    Raises:
        LearnError: There are none.
    """

    def __init__(self, trained: Callable[[], Sequence[Tensor]]) -> None:
        self._trained = trained
        weights = trained()
        if not sum(weight.numel() for weight in weights):
            raise LearnError("the model has no trainable weights, so no step would change it")
        self._before: int | None = checksum(weights)

    def check(self, metrics: Mapping[str, float]) -> None:
        """Check the weights after an optimizer step, until one has changed them.

        A step without a gradient (equal rewards) or without a learning rate (warm-up) may leave the weights as they
        are.

        Args:
            metrics: TRL's metrics of the step.

        Raises:
            LearnError: The step had a gradient and a learning rate, and changed nothing.
        """
        if self._before is None:
            return
        if checksum(self._trained()) != self._before:
            self._before = None
            return
        norm, rate = metrics.get("grad_norm", 0.0), metrics.get("learning_rate", 0.0)
        if rate > 0 and norm > 0 and math.isfinite(norm):
            raise LearnError(
                f"an optimizer step with a gradient norm of {norm:.2g} and a learning rate of {rate:.2g} changed none "
                "of the trained weights, so the run would learn nothing; raise learner.learning_rate, or report this"
            )
