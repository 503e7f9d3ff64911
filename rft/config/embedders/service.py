"""Keys that embedding models behind an address share."""

from __future__ import annotations

from rft.config.embedders.base import EmbedderConfig
from rft.config.fields import NotNegative, Positive, PositiveSeconds, ServiceUrl, VariableName


class ServiceEmbedderConfig(EmbedderConfig):
    """An embedding model behind an address."""

    url: ServiceUrl
    """Address of the API, such as `http://127.0.0.1:8000/v1`."""
    api_key_env: VariableName | None = None
    """Environment variable that holds the key; null sends none."""
    model: str
    """Name of the model at the address."""
    dimensions: Positive
    """Length of its vectors."""
    request_timeout_s: PositiveSeconds = 30.0
    """Seconds allowed for one request."""
    retries: NotNegative = 3
    """Repetitions of a failed request; a service that is too busy (429) says how long to wait."""
