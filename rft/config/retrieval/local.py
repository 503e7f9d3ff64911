"""An index in a folder, or one in memory."""

from __future__ import annotations

from typing import ClassVar, Literal

from rft.config.embedders import Embedder
from rft.config.retrieval.base import RetrievalConfig

INDEXING_S = 600.0
"""Seconds allowed for an index in memory."""


class LocalRetrievalConfig(RetrievalConfig):
    """Exact vectors and BM25, fused by rank: an index that `rft index build` made, or one made in memory from a file of
    documents. Needs no server.
    """

    store_class: ClassVar[str] = "rft.retrieval.stores.local:LocalStore"

    kind: Literal["local"] = "local"
    index: str | None = None
    """Folder of an index; null takes `documents`."""
    documents: str | None = None
    """A file of documents as for `rft index build`, or `embedded:<name>/documents`. Each command indexes it in memory,
    which suits some thousand passages; null takes `index`."""
    embedder: Embedder | None = None
    """What embeds `documents` and queries; null takes `hashing`. An index in a folder remembers its own."""
    search: Literal["fused", "vectors", "words"] = "fused"
    """Ranking: by vectors, by words (BM25), or fused from the ranks in both."""

    @property
    def start_timeout_s(self) -> float:
        """Seconds allowed for the first call, which makes an index in memory."""
        return self.timeout_s + (INDEXING_S if self.documents is not None else 0.0)

    @property
    def files(self) -> dict[str, str]:
        """The documents."""
        return {"retrieval.documents": self.documents} if self.documents else {}

    def problems(self) -> list[str]:
        """Require an index or documents, and refuse an embedder without documents."""
        problems: list[str] = []
        if not (self.index or self.documents):
            problems.append(
                "retrieval=local needs retrieval.index=<folder that rft index build made>, or "
                "retrieval.documents=<file> to index in memory"
            )
        if self.index and self.documents:
            problems.append(
                f"retrieval.index={self.index} and retrieval.documents={self.documents}: give one of the two"
            )
        if self.embedder is not None and not self.documents:
            problems.append("retrieval.embedder: only for retrieval.documents; an index remembers its own embedder")
        return problems
