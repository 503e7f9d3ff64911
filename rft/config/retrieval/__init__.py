"""The configurations of stores of passages: one file for each kind, with its keys, checks and class.

To add one, add a file with a class that has a `kind`, and a preset in `conf/retrieval/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from rft.config.kinds import kinds_in
from rft.config.retrieval.base import RetrievalConfig
from rft.config.retrieval.none import NoRetrievalConfig

__all__ = ["STORES", "NoRetrievalConfig", "Retrieval", "RetrievalConfig"]

STORES = kinds_in(__name__, RetrievalConfig)
"""Configuration classes by kind."""

if TYPE_CHECKING:
    Retrieval = RetrievalConfig
else:
    Retrieval = Annotated[Union[tuple(STORES.values())], Field(discriminator="kind")]  # noqa: UP007
