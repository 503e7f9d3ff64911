"""An index in a folder."""

from __future__ import annotations

from typing import ClassVar, Literal

from rft.config.retrieval.base import RetrievalConfig


class LocalRetrievalConfig(RetrievalConfig):
    """An index that `rft index build` made: exact vectors and BM25, fused by rank. Needs no server."""

    store_class: ClassVar[str] = "rft.retrieval.stores.local:LocalStore"

    kind: Literal["local"] = "local"
    index: str
    """Folder of the index."""
    search: Literal["fused", "vectors", "words"] = "fused"
    """Ranking: by vectors, by words (BM25), or fused from the ranks in both."""
