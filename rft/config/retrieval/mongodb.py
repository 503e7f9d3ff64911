"""A collection with a vector index in MongoDB."""

from __future__ import annotations

from typing import ClassVar, Literal

from rft.config.embedders import Embedder
from rft.config.fields import Positive, PositiveSeconds, VariableName
from rft.config.retrieval.base import RetrievalConfig
from rft.imports import missing_packages


class MongodbRetrievalConfig(RetrievalConfig):
    """A collection with a vector index: MongoDB Atlas, or a MongoDB of yours with its search process."""

    store_class: ClassVar[str] = "rft.retrieval.stores.mongodb:MongodbStore"

    kind: Literal["mongodb"] = "mongodb"
    uri_env: VariableName = "MONGODB_URI"
    """Environment variable that holds the URI with user and password."""
    database: str
    """Name of the database."""
    collection: str
    """Name of the collection."""
    index: str = "vector_index"
    """Name of the vector index."""
    path: str = "embedding"
    """Field with the vector of a document."""
    text_field: str = "text"
    """Field with its text; all other fields are the metadata."""
    model_field: str = "embedding_model"
    """Field with the name of the model that embedded it. Documents with another one are refused; a document without
    this field is not checked."""
    exact: bool = True
    """Whether every vector is compared, so that a query always finds the same; false searches approximately."""
    num_candidates: Positive | None = None
    """Vectors that an approximate search looks at, 10,000 at most; null takes 20 for each passage."""
    filter_fields: list[str] = []
    """Fields that queries may filter by, besides those of `filters`."""
    create_index: bool = False
    """Whether a missing index is created."""
    index_timeout_s: PositiveSeconds = 600.0
    """Seconds to wait until the index can be searched."""
    embedder: Embedder
    """The model that embeds the queries, the same that embedded the documents."""

    @property
    def start_timeout_s(self) -> float:
        """Seconds allowed for the first call, which may have to wait for the index."""
        return self.timeout_s + self.index_timeout_s

    def problems(self) -> list[str]:
        """Refuse a missing package, and a number of candidates that is not used."""
        problems = [missing] if (missing := missing_packages("retrieval=mongodb", "pymongo")) else []
        if self.exact and self.num_candidates is not None:
            problems.append("retrieval.num_candidates: has no effect with an exact search; add retrieval.exact=false")
        return problems
