"""The teachers of `learner=distill`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rft.config.fields import NotNegative, Number, Positive, Section


class TeacherModelConfig(Section):
    """A model, with or without an adapter, that scores tokens."""

    path: str | None = None
    """The teacher's model: a folder, a hub id, or `embedded:tiny`; null takes `model.path`. It must have the student's
    tokenizer."""
    adapter: str | None = None
    """A run folder, adapter folder or checkpoint folder with an adapter of the teacher's model; null uses none."""

    @property
    def is_given(self) -> bool:
        """Whether a teacher is configured."""
        return self.path is not None or self.adapter is not None


class TeacherConfig(TeacherModelConfig):
    """The teacher of `learner=distill`: a model that scores every token that the student samples.

    Its engines have the settings of `sampler`, apart from the keys here.
    """

    by_family: dict[str, TeacherModelConfig] = {}
    """A teacher for each trained family of `data.mixture`, instead of one for all: `{sums: {adapter: runs/sums}}`."""
    top_logprobs: NotNegative = 0
    """The most probable tokens of the teacher that the student learns from at each position; 0 compares only the
    sampled token, which is noisier. The remaining tokens count as one. Each takes 8 bytes a token: at 16, a step of 64
    completions of 512 tokens takes 4 MiB."""
    num_actors: Positive = 1
    """Number of Ray actors that score for each teacher, each with its own engine."""
    num_gpus: Annotated[Number, Field(ge=0)] | None = None
    """GPUs of each actor, or a fraction to share one; null divides the GPUs of the cluster."""

    @property
    def by_key(self) -> dict[str, TeacherModelConfig]:
        """All teachers by their section in the configuration."""
        of_families = {f"teacher.by_family.{family}": teacher for family, teacher in self.by_family.items()}
        return of_families or {"teacher": self}

    @property
    def distinct(self) -> dict[TeacherModelConfig, tuple[str, ...]]:
        """The different teachers, each with the families that it scores; without `by_family`, one with no name."""
        if not self.by_family:
            return {TeacherModelConfig(path=self.path, adapter=self.adapter): ()}
        families: dict[TeacherModelConfig, tuple[str, ...]] = {}
        for family, teacher in self.by_family.items():
            families[teacher] = (*families.get(teacher, ()), family)
        return families
