"""`learner=sft`: supervised fine-tuning on demonstrations."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from rft.config.fields import NotNegative, Number
from rft.config.learners.base import LearnerConfig, Takes


class SftLearnerConfig(LearnerConfig):
    """Supervised fine-tuning: raises the likelihood of what the assistant says in the rows of `data.train`."""

    target: ClassVar[str] = "rft.learning.sft_learner:SftLearner"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "peft", "trl")

    kind: Literal["sft"] = "sft"
    learning_rate: Annotated[Number, Field(gt=0)] = 2e-4
    """Peak learning rate. An adapter needs about ten times the rate of a whole model."""
    schedule: Literal["constant_with_warmup", "linear", "cosine"] = "linear"
    """Course of the learning rate after the warm-up: constant, or to 0 at the last step."""
    warmup_steps: NotNegative = 0
    """Optimizer steps over which the learning rate rises from 0."""
    weight_decay: Annotated[Number, Field(ge=0)] = 0.0
    """Weight decay of AdamW."""
    packing: bool = False
    """Whether the rows of a micro-batch are computed as one row without padding. No row attends to another: the learner
    proves this for its model at the start, and refuses models for which it does not hold."""
    max_grad_norm: Annotated[Number, Field(gt=0)] = 1.0
    """Largest norm of the gradients; larger ones are scaled down."""

    @property
    def takes(self) -> Takes:
        """Demonstrations."""
        return "demonstrations"

    def problems(self) -> list[str]:
        """Refuse packing of single rows."""
        if not self.packing or self.completions_per_micro_batch != 1:
            return []
        return [
            "learner.packing=true: joins the rows of a micro-batch, and learner.completions_per_micro_batch=1 leaves "
            "one in each; raise it, or use learner.packing=false"
        ]
