"""Vectors without a model."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from rft.config.embedders.base import EmbedderConfig
from rft.config.fields import Whole


class HashingEmbedderConfig(EmbedderConfig):
    """Words and parts of words, hashed into a vector: finds spellings, not meanings. Needs no model."""

    embedder_class: ClassVar[str] = "rft.retrieval.embedders.hashing:HashingEmbedder"

    kind: Literal["hashing"] = "hashing"
    dimensions: Annotated[Whole, Field(ge=16, le=65536)] = 384
    """Length of a vector."""
