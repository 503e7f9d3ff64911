"""A store whose passages a model of VoyageAI orders anew.

The wire format is that of https://docs.voyageai.com/reference/reranker-api.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rft.config.reranker import RerankerConfig
from rft.retrieval.json_service import JsonService
from rft.retrieval.passages import Passage, Query
from rft.retrieval.stores.protocol import Store, StoreFault

MAX_CONCURRENT = 8
"""Requests at the same time; each holds one query."""


class RerankedStore:
    """A store, and the model that orders what it finds.

    Args:
        store: The store.
        config: The settings of the model.

    Raises:
        ValueError: The variable with the key is not set.
    """

    def __init__(self, store: Store, config: RerankerConfig) -> None:
        self._store = store
        self._config = config
        self._where = f"model '{config.model}' at {config.url}"
        self._turns = asyncio.Semaphore(MAX_CONCURRENT)
        self._service = JsonService(
            config.url, api_key_env=config.api_key_env, timeout_s=config.request_timeout_s, retries=config.retries
        )

    async def fingerprint(self) -> str:
        """Return the fingerprint of store and model. Raises like the store."""
        parts = [await self._store.fingerprint(), self._config.model, self._config.candidates]
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    async def search(self, queries: Sequence[Query], top_k: int) -> list[list[Passage]]:
        """Return the passages of each query, the most relevant first, with the model's relevance as their score.

        Raises:
            StoreFault: Store or model failed, or the reply does not rank these passages.
            ValueError: The service refused the key or the request.
        """
        found = await self._store.search(queries, max(top_k, self._config.candidates))
        pairs = zip(queries, found, strict=True)
        return list(await asyncio.gather(*(self._ranked(query.text, own, top_k) for query, own in pairs)))

    async def close(self) -> None:
        """Close the store."""
        await self._store.close()

    async def _ranked(self, query: str, passages: Sequence[Passage], top_k: int) -> list[Passage]:
        if not passages:
            return []  # the store found nothing
        num_kept = min(top_k, len(passages))
        body = {
            "query": query,
            "documents": [passage.text for passage in passages],
            "model": self._config.model,
            "top_k": num_kept,
            "truncation": False,  # VoyageAI names a text that is too long, instead of cutting it
        }
        async with self._turns:
            ranks = _ranks(await self._service.post("/rerank", body), self._where)
        if len(ranks) != num_kept or not ranks.keys() <= set(range(len(passages))):
            raise StoreFault(f"{self._where}: the reply does not rank {num_kept} of the {len(passages)} passages")
        kept = [replace(passages[place], score=relevance) for place, relevance in ranks.items()]
        return sorted(kept, key=lambda passage: (-passage.score, passage.id))


def _ranks(reply: Any, where: str) -> dict[int, float]:
    """Return the relevance of each ranked passage, by its place in the request."""
    try:
        ranks = {entry["index"]: float(entry["relevance_score"]) for entry in reply["data"]}
        if len(ranks) != len(reply["data"]) or not all(map(math.isfinite, ranks.values())):
            raise ValueError("a passage is there twice, or its relevance is not finite")
        return ranks
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise StoreFault(f"{where}: the reply does not follow VoyageAI's API ({error})") from None
