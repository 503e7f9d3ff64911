"""A model that orders passages anew."""

from __future__ import annotations

from typing import Literal

from rft.config.fields import NotNegative, Positive, PositiveSeconds, Section, ServiceUrl, VariableName


class RerankerConfig(Section):
    """A model that reads query and passage together, and orders what the store found; its scores replace the others."""

    kind: Literal["voyage"] = "voyage"
    """The API: `voyage` is VoyageAI's."""
    url: ServiceUrl = "https://api.voyageai.com/v1"
    """Address of the API."""
    api_key_env: VariableName | None = "VOYAGE_API_KEY"
    """Environment variable that holds the key; null sends none."""
    model: str = "rerank-2.5"
    """Name of the model."""
    candidates: Positive = 20
    """Passages that the store finds for the model to order."""
    request_timeout_s: PositiveSeconds = 30.0
    """Seconds allowed for one request."""
    retries: NotNegative = 3
    """Repetitions of a failed request; a service that is too busy (429) says how long to wait."""
