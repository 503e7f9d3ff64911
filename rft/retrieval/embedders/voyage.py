"""Embeddings by VoyageAI, over rft's own client.

The package `voyageai` would bring eleven further packages, and leaves retries off. The wire format is that of
https://docs.voyageai.com/reference/embeddings-api.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from rft.config.embedders.voyage import VoyageEmbedderConfig
from rft.retrieval.embedders.vectors import Vectors, embed_in_requests
from rft.retrieval.json_service import JsonService
from rft.retrieval.stores.protocol import StoreFault


class VoyageEmbedder:
    """An embedding model of VoyageAI. It embeds queries and passages differently, and mixing them up is silent.

    Args:
        config: The settings.

    Raises:
        ValueError: The variable with the key is not set.
    """

    def __init__(self, config: VoyageEmbedderConfig) -> None:
        self._config = config
        self._service = JsonService(
            config.url,
            api_key_env=config.api_key_env,
            timeout_s=config.request_timeout_s,
            retries=config.retries,
        )

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._config.model

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self._config.dimensions

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return the `[n, d]` float32 vectors of passages.

        Raises:
            StoreFault: VoyageAI failed.
            ValueError: VoyageAI refused the key or the request, such as a text longer than the model's context.
        """
        return await self._embed(texts, "document")

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return the `[n, d]` float32 vectors of queries. Raises like `embed_documents`."""
        return await self._embed(texts, "query")

    async def close(self) -> None:
        """Do nothing: the connections belong to the event loop."""

    async def _embed(self, texts: Sequence[str], input_type: Literal["query", "document"]) -> Vectors:
        where = f"model '{self.model}' at {self._config.url}"

        async def ask(part: Sequence[str]) -> list[Any]:
            body = {
                "input": list(part),
                "model": self.model,
                "input_type": input_type,
                "output_dimension": self.dimensions,
                "encoding_format": "base64",
                "truncation": False,  # VoyageAI names a text that is too long, instead of cutting it
            }
            return _rows(await self._service.post("/embeddings", body), where)

        return await embed_in_requests(texts, ask, dimensions=self.dimensions, where=where)


def _rows(reply: Any, where: str) -> list[Any]:
    """Return the vectors of a reply in the order of the texts."""
    try:
        entries = sorted(reply["data"], key=lambda entry: entry["index"])
        if [entry["index"] for entry in entries] != list(range(len(entries))):
            raise ValueError("its indices are not 0, 1, 2, ...")
        return [_vector(entry["embedding"]) for entry in entries]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise StoreFault(f"{where}: the reply does not follow VoyageAI's API ({error})") from None


def _vector(embedding: Any) -> Any:
    """Decode base64 of little-endian float32 numbers; servers may send a list instead."""
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
    return embedding
