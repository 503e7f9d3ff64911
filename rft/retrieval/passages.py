"""The records of retrieval: queries, passages, and what is kept of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a store searches for.

    Example:
        Query(text="How often does an orchid need water?", filters={"language": "en"})
    """

    text: str
    """The text."""
    filters: Mapping[str, Any] = field(default_factory=dict)
    """Values by name of the metadata. A passage fits if each equals its own, or is a list that contains it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A passage that a store found.

    Example:
        Passage(id="p3", text="Water orchids once a week.", metadata={"language": "en"}, score=0.83)
    """

    id: str
    """Its id, unique in the store."""
    text: str
    """Its text."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Everything else that the store keeps with it, as JSON values; no vectors."""
    score: float
    """How well it fits the query; higher is better. Comparable only within one store and its settings."""

    def to_json(self) -> dict[str, Any]:
        """Return the passage as it stands in `item["passages"]`."""
        return {"id": self.id, "text": self.text, "metadata": dict(self.metadata), "score": self.score}
