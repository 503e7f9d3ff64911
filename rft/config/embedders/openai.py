"""An embedding model behind an endpoint of OpenAI's form."""

from __future__ import annotations

from typing import ClassVar, Literal

from rft.config.embedders.service import ServiceEmbedderConfig


class OpenAIEmbedderConfig(ServiceEmbedderConfig):
    """An embedding model behind an endpoint of OpenAI's form: OpenAI, vLLM, Text Embeddings Inference and others."""

    embedder_class: ClassVar[str] = "rft.retrieval.embedders.openai:OpenAIEmbedder"

    kind: Literal["openai"] = "openai"
    query_prefix: str = ""
    """Text before each query, such as `query: `, which some models want."""
    document_prefix: str = ""
    """Text before each passage, such as `passage: `."""
