"""What every embedder does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """Turns texts into vectors of length 1, or of 0 for a text without content. Its class takes its settings.

    Documents and queries have calls of their own, because many models embed them differently; mixing them up lowers
    recall without an error. The constructor connects to nothing, and raises `ValueError` for settings that cannot work.
    """

    @property
    def model(self) -> str:
        """Name of the model that changes whenever vectors would, such as `hashing-1` or `voyage-4`.

        An index records it, and refuses queries of another model.
        """

    @property
    def dimensions(self) -> int:
        """Length of a vector."""

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return the `[n, d]` float32 vectors of passages.

        Raises:
            StoreFault: The model cannot be reached, or its answer has another shape.
            ValueError: A mistake of the user's, such as a refused key.
        """

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return the `[n, d]` float32 vectors of queries. Raises like `embed_documents`."""

    async def close(self) -> None:
        """Close connections. Never raises."""
