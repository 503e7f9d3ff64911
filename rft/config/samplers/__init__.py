"""The configurations of samplers: one file for each engine, with its keys, checks, libraries and engine class.

To add an engine, add a file with a class that has a `kind`, and a preset in `conf/sampler/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from rft.config.kinds import kinds_in
from rft.config.samplers.base import SamplerConfig

SAMPLERS = kinds_in(__name__, SamplerConfig)
"""Configuration classes by kind."""

if TYPE_CHECKING:
    Sampler = SamplerConfig
else:
    Sampler = Annotated[Union[tuple(SAMPLERS.values())], Field(discriminator="kind")]  # noqa: UP007
