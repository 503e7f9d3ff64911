"""A store behind HTTP: any search service that answers one POST.

    POST <url>
    {"queries": [{"text": "repotting an orchid", "filters": {"kind": "care"}}], "top_k": 2}

    200
    {"fingerprint": "orchids-2026-11-01",
     "results": [[{"id": "p7", "text": "Repot every two years.", "score": 0.83, "metadata": {"kind": "care"}}]]}

`results` has one list for each query, best first, with at most `top_k` passages. An empty list says that nothing was
found; a service that cannot search answers with a status of 400 or more. `fingerprint` names the content of the index:
it changes whenever the same query may find something else. Without queries, the reply has no results. `metadata` may
be left out.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rft.config.retrieval.http import HttpRetrievalConfig
from rft.retrieval.json_service import JsonService
from rft.retrieval.passages import Passage, Query
from rft.retrieval.stores.protocol import StoreFault


class HttpStore:
    """A store behind HTTP. The index must not change while a run uses it.

    Args:
        config: The settings.

    Raises:
        ValueError: The variable with the key is not set.
    """

    def __init__(self, config: HttpRetrievalConfig) -> None:
        self._service = JsonService(config.url, api_key_env=config.api_key_env, timeout_s=config.timeout_s, retries=0)
        self._name: str | None = None

    async def fingerprint(self) -> str:
        """Return a digest of the name that the service gives to the content of its index.

        Raises:
            StoreFault: The service failed, or its reply breaks the contract.
            ValueError: The service refused the key or the request.
        """
        await self.search([], 1)
        return hashlib.sha256(f"{self._service.url} {self._name}".encode()).hexdigest()[:16]

    async def search(self, queries: Sequence[Query], top_k: int) -> list[list[Passage]]:
        """Return the passages of each query, best first.

        Raises:
            StoreFault: The service failed, or its reply breaks the contract.
            ValueError: The service refused the key or the request, or its index has changed.
        """
        asked = [{"text": query.text, "filters": dict(query.filters)} for query in queries]
        where = self._service.url
        reply = await self._service.post("", {"queries": asked, "top_k": top_k})
        try:
            results = reply["results"] if queries else reply.get("results", [])
            found = [[_passage(entry) for entry in entries] for entries in results]
            name = _text(reply, "fingerprint")
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise StoreFault(f"{where}: the reply breaks the contract: {error}") from None
        if len(found) != len(queries):
            raise StoreFault(f"{where}: {len(found)} lists of passages for {len(queries)} queries")
        for passages in found:
            if len(passages) > top_k or len({passage.id for passage in passages}) < len(passages):
                raise StoreFault(f"{where}: more than {top_k} passages, or one of them twice")
        self._name = self._name or name
        if name != self._name:
            raise ValueError(
                f"{where}: the index has changed from {self._name!r} to {name!r}; a run uses one index, so start it "
                "again, or serve the former index"
            )
        return [sorted(passages, key=lambda passage: (-passage.score, passage.id)) for passages in found]

    async def close(self) -> None:
        """Do nothing: the connections belong to the event loop."""


def _passage(entry: Mapping[str, Any]) -> Passage:
    score, metadata = entry["score"], entry.get("metadata", {})
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise ValueError("score must be a finite number")
    if not isinstance(metadata, dict):
        raise ValueError("metadata must be an object")
    return Passage(id=_text(entry, "id"), text=_text(entry, "text"), metadata=metadata, score=float(score))


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry[key]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key} must be a text that is not empty")
    return value
