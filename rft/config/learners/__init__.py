"""The configurations of learners: one file for each algorithm, with its keys, checks, libraries and classes.

To add an algorithm, add a file with a class that has a `kind`, and a preset in `conf/learner/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from rft.config.kinds import kinds_in
from rft.config.learners.base import LearnerConfig

LEARNERS = kinds_in(__name__, LearnerConfig)
"""Configuration classes by kind."""

if TYPE_CHECKING:
    Learner = LearnerConfig
else:
    Learner = Annotated[Union[tuple(LEARNERS.values())], Field(discriminator="kind")]  # noqa: UP007
