"""A search service behind HTTP."""

from __future__ import annotations

from typing import ClassVar, Literal

from rft.config.fields import ServiceUrl, VariableName
from rft.config.retrieval.base import RetrievalConfig


class HttpRetrievalConfig(RetrievalConfig):
    """A search service of yours that answers one POST with passages; docs/stores.md has its form."""

    store_class: ClassVar[str] = "rft.retrieval.stores.http:HttpStore"

    kind: Literal["http"] = "http"
    url: ServiceUrl
    """Address of the service."""
    api_key_env: VariableName | None = None
    """Environment variable that holds its key, which is sent as a bearer token; null sends none."""
