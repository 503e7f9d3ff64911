"""Searches a store for many queries, in batches. A fault is repeated within a budget, and never an empty result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from rft.config.retrieval.base import RetrievalConfig
from rft.errors import RetrievalError, UsageError, WaitTimeout
from rft.retrieval.build import open_store
from rft.retrieval.found import Found, keep, key_of, read_found
from rft.retrieval.passages import Passage, Query
from rft.retrieval.stores.protocol import Store, StoreFault
from rft.waiting import wait_for, waiting

T = TypeVar("T")
REASONS_SHOWN = 3
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""Seconds before the first repetition, which double with each further one, and the most."""
Sleep = Callable[[float], Awaitable[None]]


class Searcher:
    """Finds the passages of queries.

    Args:
        config: The settings.
        store: The store.
        sleep: Waits between repetitions.
    """

    def __init__(self, config: RetrievalConfig, store: Store, *, sleep: Sleep = asyncio.sleep) -> None:
        self._config = config
        self._store = store
        self._sleep = sleep
        self._fingerprint: str | None = None
        self._reasons: list[str] = []

    @property
    def num_faults(self) -> int:
        """Failed searches so far."""
        return len(self._reasons)

    async def fingerprint(self) -> str:
        """Return the store's fingerprint, which it is asked for once. Raises like `search`."""
        if self._fingerprint is None:
            what = f"the store of retrieval={self._config.kind}"
            ask, deadline_s = self._store.fingerprint, self._config.start_timeout_s
            self._fingerprint = await self._persist(ask, what=what, deadline_s=deadline_s)
        return self._fingerprint

    async def search(self, queries: Mapping[str, Query], num_wanted: int) -> Found:
        """Return up to `num_wanted` passages of each query.

        Args:
            queries: Queries by `key_of`.
            num_wanted: Most passages of a query.

        Raises:
            RetrievalError: More searches failed than `retrieval.max_faults`.
            UsageError: The store refuses the settings.
        """
        file = None
        found: Found = {}
        if self._config.cache_folder:
            fingerprint = await self.fingerprint()
            file = Path(self._config.cache_folder).expanduser() / f"passages-{fingerprint}.jsonl"
            found = {key: passages for key, passages in read_found(file).items() if key in queries}
        missing = [key for key in queries if key not in found]
        size = self._config.batch_queries
        for start in range(0, len(missing), size):
            keys = missing[start : start + size]
            batch = [queries[key] for key in keys]
            what = f"passages of {len(batch)} queries from retrieval={self._config.kind}"
            search = partial(self._checked, batch, num_wanted)
            results = await self._persist(search, what=what, deadline_s=self._config.timeout_s)
            new = dict(zip(keys, results, strict=True))
            if file is not None:
                keep(file, new)
            found |= new
        return found

    async def _checked(self, queries: Sequence[Query], num_wanted: int) -> list[list[Passage]]:
        """Search once. A malformed result is a fault."""
        results = await self._store.search(queries, num_wanted)
        if len(results) != len(queries):
            raise StoreFault(f"{len(results)} results for {len(queries)} queries")
        for passages in results:
            if len({passage.id for passage in passages}) != len(passages) or len(passages) > num_wanted:
                raise StoreFault(f"a result with {len(passages)} passages, some twice or more than {num_wanted}")
        return results

    async def _persist(self, call: Callable[[], Awaitable[T]], *, what: str, deadline_s: float) -> T:
        """Await a call, and repeat it after faults."""
        config = self._config
        attempt = 0
        while True:
            try:
                return await wait_for(call(), what=what, deadline_s=deadline_s)
            except ValueError as error:
                raise UsageError("retrieval", [str(error)]) from error
            except (StoreFault, WaitTimeout) as error:
                asked_s = error.retry_after_s if isinstance(error, StoreFault) else 0.0
                self._reasons.append(str(error) or type(error).__name__)
                if self.num_faults > config.max_faults:
                    raise RetrievalError(self._message()) from error
            pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S * 2.0**attempt, asked_s))
            attempt += 1
            with waiting(f"{what}, again after: {self._reasons[-1]}", deadline_s=pause_s):
                await self._sleep(pause_s)

    def _message(self) -> str:
        last = list(dict.fromkeys(reversed(self._reasons)))[:REASONS_SHOWN]
        return "\n".join(
            [
                f"retrieval={self._config.kind}: {self.num_faults} searches failed, and retrieval.max_faults="
                f"{self._config.max_faults} are repeated; the last reasons:",
                *(f"  - {reason}" for reason in last),
                "a prompt without its passages would be another task, so nothing was sampled; repair the store, or "
                "raise retrieval.max_faults or retrieval.timeout_s",
            ]
        )


async def find(config: RetrievalConfig, queries: Sequence[Query], num_wanted: int) -> tuple[str, Found]:
    """Open the store, search for all queries, and close it.

    Returns:
        The store's fingerprint, and the passages by `key_of` their query.

    Raises:
        RetrievalError: Too many searches failed.
        UsageError: The settings cannot work.
    """
    try:
        store = open_store(config)
    except ValueError as error:
        raise UsageError("retrieval", [str(error)]) from error
    searcher = Searcher(config, store)
    try:
        fingerprint = await searcher.fingerprint()
        return fingerprint, await searcher.search({key_of(query, num_wanted): query for query in queries}, num_wanted)
    finally:
        await store.close()
