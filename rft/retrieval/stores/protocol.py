"""What every store does, and the errors that it raises.

A store raises. It returns an empty list only if it has searched, and nothing fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rft.retrieval.passages import Passage, Query


class StoreFault(Exception):
    """A search failed for a reason that may pass: a time-out, a broken connection, a status 5xx, an index being built.

    rft repeats the search, and counts the fault against `retrieval.max_faults`. A fault is never an empty result.

    Args:
        reason: What failed, in one sentence, without secrets.
        retry_after_s: Seconds that the store asks to wait; 0 leaves it to rft.
    """

    def __init__(self, reason: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Store(Protocol):
    """A store of passages. Its class takes its settings: `LocalStore(config)`.

    The constructor connects to nothing. It raises `ValueError` for settings that cannot work, such as an environment
    variable that is not set. All calls come from one event loop, and may overlap. rft gives each a deadline.
    """

    async def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change with the passages, the embedding model, or how it is searched.

        It is the first call, so it also compares the store with the settings.

        Raises:
            ValueError: A mistake of the user's: no such index, another embedding model, another dimension.
            StoreFault: The store cannot be asked now.
        """

    async def search(self, queries: Sequence[Query], top_k: int) -> list[list[Passage]]:
        """Return the best passages of each query, the best first. Equal scores are ordered by id.

        Args:
            queries: `[Q]` queries.
            top_k: Largest number of passages of a query.

        Returns:
            `[Q]` lists of up to `top_k` passages with different ids.

        Raises:
            ValueError: A mistake of the user's, which a repetition would not repair, such as an undeclared filter.
            StoreFault: The search failed.
        """

    async def close(self) -> None:
        """Close connections. Never raises."""
