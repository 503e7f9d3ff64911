"""Opens stores and embedders by their settings, and imports their libraries only then."""

from __future__ import annotations

import importlib
from typing import Any

from rft.config.embedders.base import EmbedderConfig
from rft.config.retrieval.base import RetrievalConfig
from rft.retrieval.embedders.protocol import Embedder
from rft.retrieval.reranked import RerankedStore
from rft.retrieval.stores.protocol import Store


def open_store(config: RetrievalConfig) -> Store:
    """Return the store of a configuration.

    Raises:
        ValueError: The settings cannot work.
    """
    store: Store = _class(config.store_class)(config)
    return RerankedStore(store, config.rerank) if config.rerank else store


def open_embedder(config: EmbedderConfig) -> Embedder:
    """Return the embedder of a configuration.

    Raises:
        ValueError: The settings cannot work.
    """
    embedder: Embedder = _class(config.embedder_class)(config)
    return embedder


def _class(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
