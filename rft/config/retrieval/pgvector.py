"""A table with vectors in PostgreSQL."""

from __future__ import annotations

from typing import ClassVar, Literal

from rft.config.embedders import Embedder
from rft.config.fields import VariableName
from rft.config.retrieval.base import RetrievalConfig
from rft.imports import missing_packages


class PgvectorRetrievalConfig(RetrievalConfig):
    """A table with vectors in a PostgreSQL that has the extension pgvector."""

    store_class: ClassVar[str] = "rft.retrieval.stores.pgvector:PgvectorStore"

    kind: Literal["pgvector"] = "pgvector"
    uri_env: VariableName = "POSTGRES_URI"
    """Environment variable that holds the URI with user and password."""
    table: str
    """Name of the table, with its schema or without, such as `house.posts`."""
    id_column: str = "id"
    """Column with the id of a passage."""
    text_column: str = "text"
    """Column with its text."""
    vector_column: str = "embedding"
    """Column with its vector."""
    metadata_column: str | None = "metadata"
    """Column of type jsonb with its metadata; null if there is none."""
    model_field: str = "embedding_model"
    """Entry of the metadata with the name of the model that embedded a passage. Passages of another one are refused; a
    passage without this entry is not checked."""
    exact: bool = True
    """Whether every vector is compared, so that a query always finds the same; false uses an index, if there is one."""
    embedder: Embedder
    """The model that embeds the queries, the same that embedded the passages."""

    def problems(self) -> list[str]:
        """Refuse a missing package, and filters without a column of metadata."""
        problems = [missing] if (missing := missing_packages("retrieval=pgvector", "asyncpg")) else []
        if self.filters and self.metadata_column is None:
            problems.append("retrieval.filters: need a column of metadata; set retrieval.metadata_column")
        return problems
