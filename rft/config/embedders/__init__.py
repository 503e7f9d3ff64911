"""The configurations of embedders: one file for each kind, with its keys and its class.

To add one, add a file with a class that has a `kind`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from rft.config.embedders.base import EmbedderConfig
from rft.config.kinds import kinds_in

EMBEDDERS = kinds_in(__name__, EmbedderConfig)
"""Configuration classes by kind."""

if TYPE_CHECKING:
    Embedder = EmbedderConfig
else:
    Embedder = Annotated[Union[tuple(EMBEDDERS.values())], Field(discriminator="kind")]  # noqa: UP007
