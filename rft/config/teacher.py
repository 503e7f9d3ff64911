"""The teacher of `learner=distill`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rft.config.fields import Number, Positive, Section


class TeacherConfig(Section):
    """The teacher of `learner=distill`: a model that scores every token that the student samples.

    Its engines have the settings of `sampler`, apart from the keys here.
    """

    path: str | None = None
    """The teacher's model, like `model.path`, which null takes. It must have the student's tokenizer."""
    adapter: str | None = None
    """A run folder, adapter folder or checkpoint folder with an adapter of the teacher's model; null uses none."""
    num_actors: Positive = 1
    """Number of Ray actors that score, each with its own engine."""
    num_gpus: Annotated[Number, Field(ge=0)] | None = None
    """GPUs of each actor, or a fraction to share one; null divides the GPUs of the cluster."""

    @property
    def is_given(self) -> bool:
        """Whether a teacher is configured."""
        return self.path is not None or self.adapter is not None
