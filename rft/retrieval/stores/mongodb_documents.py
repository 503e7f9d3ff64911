"""The pipeline of a vector search in MongoDB, and the passages that its documents become."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from rft.config.retrieval.mongodb import MongodbRetrievalConfig
from rft.retrieval.passages import Passage

SCORE = "_rft_score"
"""Field of a found document with its score."""
CANDIDATES_PER_PASSAGE = 20
MAX_CANDIDATES = 10_000


def pipeline_of(
    config: MongodbRetrievalConfig, filters: Mapping[str, Any], vector: list[float], top_k: int
) -> list[dict[str, Any]]:
    """Return the pipeline that searches for one vector.

    Args:
        config: The settings.
        filters: Values by field; a list allows several values.
        vector: `[d]` numbers.
        top_k: Number of passages.
    """
    search: dict[str, Any] = {"index": config.index, "path": config.path, "queryVector": vector, "limit": top_k}
    if config.exact:
        search["exact"] = True
    else:
        candidates = config.num_candidates or CANDIDATES_PER_PASSAGE * top_k
        search["numCandidates"] = min(max(candidates, top_k), MAX_CANDIDATES)
    if filters:
        search["filter"] = {"$and": [_condition(field, value) for field, value in sorted(filters.items())]}
    return [
        {"$vectorSearch": search},
        {"$set": {SCORE: {"$meta": "vectorSearchScore"}}},
        {"$unset": config.path},
    ]


def _condition(field: str, value: Any) -> dict[str, Any]:
    return {field: {"$in": value} if isinstance(value, list) else {"$eq": value}}


def passage_of(document: Mapping[str, Any], *, text_field: str) -> Passage:
    """Return a found document as a passage.

    Raises:
        KeyError: It has no text or no score.
        TypeError: Its text is not a text.
    """
    text, score = document[text_field], document[SCORE]
    if not isinstance(text, str):
        raise TypeError(f"it is of type {type(text).__name__}")
    metadata = {name: _plain(value) for name, value in document.items() if name not in ("_id", text_field, SCORE)}
    return Passage(id=str(document["_id"]), text=text, metadata=metadata, score=float(score))


def _plain(value: Any) -> Any:
    """Return a value of BSON as one of JSON."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int | float) else str(value)
