"""Guards against a learner that trains nothing, or whose weights are no numbers any more. No setting disables them.

A trainer whose adapter was loaded frozen runs to its end with plausible metrics (huggingface/trl#6700). So does one
whose weights are NaN, because Transformers logs a loss of 0 in place of NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from rft.errors import LearnError
from rft.learning.ranks import checksum


class TrainingGuard:
    """Requires trainable weights, that the first optimizer step with a gradient changes them, and finite ones.

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
        """Check the weights after an optimizer step.

        A step without a gradient (equal rewards) or without a learning rate (warm-up) may leave the weights as they
        are. So does one with an infinite gradient in float16.

        Args:
            metrics: TRL's metrics of the step.

        Raises:
            LearnError: The step had a gradient and a learning rate, and no step has changed anything yet; or weights
                are not finite.
        """
        norm, rate = metrics.get("grad_norm", math.nan), metrics.get("learning_rate", 0.0)
        if not math.isfinite(norm) and not all(weight.isfinite().all() for weight in self._trained()):
            raise LearnError(
                f"an optimizer step with a learning rate of {rate:.2g} led to weights that are not finite, because its "
                "gradient was not; continue from the last checkpoint, or start again with a lower "
                "learner.learning_rate"
            )
        if self._before is None:
            return
        if checksum(self._trained()) != self._before:
            self._before = None
            return
        if rate > 0 and norm > 0 and math.isfinite(norm):
            raise LearnError(
                f"an optimizer step with a gradient norm of {norm:.2g} and a learning rate of {rate:.2g} changed none "
                "of the trained weights, so the run would learn nothing; raise learner.learning_rate, or report this"
            )
