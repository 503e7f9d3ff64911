"""An embedding model of VoyageAI."""

from __future__ import annotations

from typing import ClassVar, Literal

from rft.config.embedders.service import ServiceEmbedderConfig
from rft.config.fields import Positive, ServiceUrl, VariableName


class VoyageEmbedderConfig(ServiceEmbedderConfig):
    """An embedding model of VoyageAI, which embeds queries and passages differently."""

    embedder_class: ClassVar[str] = "rft.retrieval.embedders.voyage:VoyageEmbedder"

    kind: Literal["voyage"] = "voyage"
    url: ServiceUrl = "https://api.voyageai.com/v1"
    """Address of the API."""
    api_key_env: VariableName | None = "VOYAGE_API_KEY"
    """Environment variable that holds the key."""
    model: str = "voyage-3.5"
    """Name of the model."""
    dimensions: Positive = 1024
    """Length of a vector; VoyageAI refuses what the model does not offer."""
