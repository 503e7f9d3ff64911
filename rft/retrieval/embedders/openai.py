"""Embeds texts with any endpoint of OpenAI's form: OpenAI, vLLM, Text Embeddings Inference and others."""

from __future__ import annotations

from collections.abc import Sequence

from rft.config.embedders.openai import OpenAIEmbedderConfig
from rft.grading.clients.model_client import ModelCallError, ModelClient
from rft.retrieval.embedders.vectors import Vectors, embed_in_requests
from rft.retrieval.json_service import secret_of
from rft.retrieval.stores.protocol import StoreFault


class OpenAIEmbedder:
    """An embedding model behind an endpoint. Such endpoints tell queries from passages by a prefix, if at all.

    Args:
        config: The settings.

    Raises:
        ValueError: The variable with the key is not set.
    """

    def __init__(self, config: OpenAIEmbedderConfig) -> None:
        if config.api_key_env:
            secret_of(config.api_key_env)
        self._config = config
        self._client = ModelClient(
            config.url,
            config.model,
            config.api_key_env,
            timeout_s=config.request_timeout_s,
            retries=config.retries,
            outage_s=0.0,  # a search has its own deadline
        )

    @property
    def model(self) -> str:
        """The model and the prefixes, which change its vectors."""
        prefixes = [self._config.query_prefix, self._config.document_prefix]
        return self._config.model + (f" with prefixes {prefixes}" if any(prefixes) else "")

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self._config.dimensions

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return the `[n, d]` float32 vectors of passages.

        Raises:
            StoreFault: The endpoint failed, or its vectors have another length.
            ValueError: The endpoint refused the key or the request.
        """
        return await self._embed(texts, self._config.document_prefix)

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return the `[n, d]` float32 vectors of queries. Raises like `embed_documents`."""
        return await self._embed(texts, self._config.query_prefix)

    async def close(self) -> None:
        """Do nothing: the connections belong to the event loop."""

    async def _embed(self, texts: Sequence[str], prefix: str) -> Vectors:
        async def ask(part: Sequence[str]) -> list[list[float]]:
            try:
                return await self._client.embed([prefix + text for text in part])
            except ModelCallError as error:
                raise (StoreFault if error.may_pass else ValueError)(str(error)) from None

        where = f"model '{self._config.model}' at {self._config.url}"
        return await embed_in_requests(texts, ask, dimensions=self.dimensions, where=where)
