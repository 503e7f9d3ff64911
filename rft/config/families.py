"""Configuration of one task family of a mixture."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rft.config.fields import Number, Positive, Section


class FamilyConfig(Section):
    """A family of tasks: its files, its graders, and its share of each step."""

    source: str | None = None
    """Training tasks, like `data.train`; null only measures the family."""
    validation: str | None = None
    """Tasks of this family measured during the run, like `data.validation`."""
    test: str | None = None
    """Tasks of this family measured before and after the run, like `data.test`."""
    graders: list[str] = []
    """Names of the graders, of those in `graders`, that score the completions of this family."""
    weight: Annotated[Number, Field(gt=0)] | None = None
    """Weight relative to the other families; null takes n^(1/T) for n training tasks and T = `data.temperature`."""
    cap: Positive | None = None
    """Number of training tasks above which n does not grow; null has no limit."""
    older: bool = False
    """Whether these are tasks of an earlier stage, from which only `data.replay` takes training tasks."""
    columns: dict[str, str] | None = None
    """Names of columns in the files of this family; null takes `data.columns`."""


class CurriculumConfig(Section):
    """Weights the share of each family with the share of its groups that teach, measured during training."""

    every_steps: Positive = 10
    """Steps between two updates of the shares."""
    floor: Annotated[Number, Field(gt=0, lt=1)] = 0.05
    """Lowest share of each family."""
