"""The store `local`: exact vectors and BM25 over a folder, fused by reciprocal rank (Cormack et al., 2009).

The same query finds the same passages in any batch. A matrix product rounds differently for other shapes, so it only
selects candidates, with room for rounding; each candidate is then scored alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from rft.config.embedders import Embedder as EmbedderSettings
from rft.config.embedders.hashing import HashingEmbedderConfig
from rft.config.retrieval.local import LocalRetrievalConfig
from rft.retrieval.build import open_embedder
from rft.retrieval.documents import index_in_memory
from rft.retrieval.embedders.protocol import Embedder, Vectors
from rft.retrieval.index_folder import Index, read_index, read_manifest
from rft.retrieval.passages import Passage, Query

DEPTH = 100
"""Fewest passages of each ranking that are fused."""
RANK_OFFSET = 60
"""A passage at rank r, from 1, scores 1 / (60 + r)."""
ROUNDING = 1e-5
"""Room for the rounding of a matrix product of vectors of length 1."""
DECIMALS = 6
"""Digits of a cosine that decide; equal passages are ordered by id."""

Ranking = list[tuple[int, float]]
"""Passages by number, with their scores, the best first."""


class LocalStore:
    """Searches an index, which is in memory. Implements `Store`."""

    def __init__(self, config: LocalRetrievalConfig) -> None:
        self._config = config
        self._in_memory = (config.embedder or HashingEmbedderConfig()) if config.documents else None
        self._folder = Path(config.index or "").expanduser()
        self._embedder = (
            open_embedder(self._in_memory)
            if self._in_memory
            else _embedder_of(read_manifest(self._folder), self._folder)
        )
        self._loading: asyncio.Future[Index] | None = None
        self._masks: dict[str, NDArray[np.bool_]] = {}

    async def fingerprint(self) -> str:
        """Return the fingerprint of index and ranking; load or make the index at the first call.

        Raises:
            DataError: Contains every flaw of `retrieval.documents`.
        """
        index = await self._loaded()
        return _hash([index.manifest["fingerprint"], self._config.search])

    async def search(self, queries: Sequence[Query], top_k: int) -> list[list[Passage]]:
        """Return the best passages of each query. Raises `ValueError` for metadata that no passage has."""
        index = await self._loaded()
        has_vectors = self._config.search != "words"
        vectors = await self._embedder.embed_queries([query.text for query in queries]) if has_vectors else None
        return await asyncio.to_thread(self._search, index, queries, vectors, top_k)

    async def close(self) -> None:
        """Close the embedder."""
        await self._embedder.close()

    async def _loaded(self) -> Index:
        loading = self._loading
        if loading is None or (loading.done() and (loading.cancelled() or loading.exception() is not None)):
            # A load that failed begins anew, because an embedder that could not be reached may answer now.
            loading = self._loading = asyncio.ensure_future(self._load())
        return await asyncio.shield(loading)  # a search that is repeated waits for the same load

    async def _load(self) -> Index:
        if self._in_memory is not None and self._config.documents is not None:
            return await index_in_memory(self._config.documents, self._in_memory, key="retrieval.documents")
        return await asyncio.to_thread(read_index, self._folder)

    def _search(
        self, index: Index, queries: Sequence[Query], vectors: Vectors | None, top_k: int
    ) -> list[list[Passage]]:
        depth = top_k if self._config.search != "fused" else max(top_k, DEPTH)
        masks = [self._mask(index, query.filters) for query in queries]
        found = [
            [near_words(index, query.text, mask, depth)] if self._config.search != "vectors" else []
            for query, mask in zip(queries, masks, strict=True)
        ]
        if vectors is not None:
            for own, near in zip(found, near_vectors(index, vectors, masks, depth), strict=True):
                own.append(near)
        return [
            [_passage(index, row, score) for row, score in fused(index, rankings)[:top_k]] for rankings in found
        ]  # fmt: skip

    def _mask(self, index: Index, filters: Mapping[str, Any]) -> NDArray[np.bool_] | None:
        """Return `[n]` whether each passage has this metadata; None without filters."""
        if not filters:
            return None
        key = json.dumps(dict(filters), sort_keys=True, default=str)
        if key not in self._masks:
            allowed = {name: value if isinstance(value, list) else [value] for name, value in filters.items()}
            known = {name for document in index.documents for name in document["metadata"]}
            if unknown := sorted(allowed.keys() - known):
                names = ", ".join(sorted(known)) or "none"
                raise ValueError(f"retrieval.filters: no passage has {', '.join(unknown)}; their metadata: {names}")
            fits = [
                all(document["metadata"].get(name) in values for name, values in allowed.items())
                for document in index.documents
            ]
            self._masks[key] = np.array(fits, np.bool_)
        return self._masks[key]


def near_vectors(
    index: Index, vectors: Vectors, masks: Sequence[NDArray[np.bool_] | None], depth: int
) -> list[Ranking]:
    """Return the passages with the highest cosine.

    Args:
        index: The index.
        vectors: `[Q, d]` vectors of the queries.
        masks: `[Q]` which passages count; None counts all.
        depth: Passages of a query.
    """
    rankings: list[Ranking] = []
    for vector, mask, rough in zip(vectors, masks, vectors @ index.vectors.T, strict=True):
        if not vector.any():  # a text without words has no direction
            rankings.append([])
            continue
        rows = _candidates(rough, mask, depth, room=ROUNDING)
        exact = (index.vectors[rows].astype(np.float64) * vector.astype(np.float64)).sum(axis=1)
        rankings.append(_ranked(index, rows, exact.round(DECIMALS), depth))
    return rankings


def near_words(index: Index, query: str, mask: NDArray[np.bool_] | None, depth: int) -> Ranking:
    """Return the passages with the highest BM25 score, of those that have a word of the query."""
    scores = index.postings.scores(query)
    rows = _candidates(scores, mask, depth, room=0.0)
    rows = rows[scores[rows] > 0]
    return _ranked(index, rows, scores[rows].astype(np.float64), depth)


def fused(index: Index, rankings: Sequence[Ranking]) -> Ranking:
    """Return one ranking: by the sum of 1 / (60 + rank), or the only one unchanged."""
    if len(rankings) == 1:
        return rankings[0]
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, (row, _) in enumerate(ranking, start=1):
            scores[row] = scores.get(row, 0.0) + 1 / (RANK_OFFSET + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], index.documents[item[0]]["id"]))


def _candidates(
    scores: NDArray[np.float32], mask: NDArray[np.bool_] | None, depth: int, room: float
) -> NDArray[np.int64]:
    """Return the passages whose scores reach that of the one at `depth`, less `room`, so that ties are complete."""
    if mask is not None:
        scores = np.where(mask, scores, -np.inf).astype(np.float32)
    threshold = np.float32(-np.inf)
    if len(scores) > depth:
        threshold = np.partition(scores, len(scores) - depth)[len(scores) - depth] - np.float32(room)
    return np.flatnonzero((scores >= threshold) & (scores > -np.inf))


def _ranked(index: Index, rows: NDArray[np.int64], scores: NDArray[np.float64], depth: int) -> Ranking:
    pairs = zip(rows.tolist(), scores.tolist(), strict=True)
    return sorted(pairs, key=lambda item: (-item[1], index.documents[item[0]]["id"]))[:depth]


def _passage(index: Index, row: int, score: float) -> Passage:
    document = index.documents[row]
    return Passage(id=document["id"], text=document["text"], metadata=document["metadata"], score=score)


def _embedder_of(manifest: Mapping[str, Any], folder: Path) -> Embedder:
    """Return the embedder of an index.

    Raises:
        ValueError: It cannot be opened, or its model is another one now.
    """
    settings: EmbedderSettings = TypeAdapter(EmbedderSettings).validate_python(manifest["embedder"])
    embedder = open_embedder(settings)
    made = (manifest["model"], manifest["dimensions"])
    if (embedder.model, embedder.dimensions) != made:
        raise ValueError(
            f"retrieval.index={folder}: its vectors are of the model {made[0]} with {made[1]} dimensions, and its "
            f"embedder is now {embedder.model} with {embedder.dimensions}; build the index again"
        )
    return embedder


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
