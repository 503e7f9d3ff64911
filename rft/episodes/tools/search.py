"""Search as a tool: the policy queries a store of passages, and is told what was found.

The stores are those of `rft.retrieval`. What was found stays with the message that tells it, so that graders see it,
and grading again needs no store.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from rft.config.retrieval import RetrievalConfig
from rft.config.tools import ToolConfig
from rft.episodes.tools.tool import FoundPassages, OpenTools, Tool, ToolError, ToolFault
from rft.errors import RetrievalError, UsageError, WaitTimeout
from rft.retrieval.build import open_store
from rft.retrieval.found import key_of
from rft.retrieval.grounding import SPARE, ids_in
from rft.retrieval.passages import Query
from rft.retrieval.searching import Searcher, find
from rft.retrieval.stores.protocol import Store
from rft.types import Task
from rft.waiting import within

REPEATED = 2
"""Failed searches of one call that are repeated; after more, the call is a fault of the environment."""
NOTHING = "no passage found"
"""What the policy is told if the store has searched, and nothing fits."""
ASIDE_S = 60.0
"""Seconds for everything but the first call of a store, such as loading an index."""
DESCRIPTION = "Search for passages. Returns the passages that fit the query best, each as [id] text."
PARAMETERS: Mapping[str, Any] = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "What to search for."}},
    "required": ["query"],
}


class SearchSource:
    """A store that the policy may search. Implements `ToolSource`.

    A process opens the store once, for all of its episodes.

    Args:
        name: Name of the entry.
        entry: The entry.
        fingerprint: The store's fingerprint at the start of the run; empty asks the store.

    Raises:
        ValueError: The settings cannot work, or the store cannot be asked.
    """

    has_score = speaks = False
    file = ""

    def __init__(self, name: str, entry: ToolConfig, fingerprint: str = "") -> None:
        self.name = name
        self._config = entry.searched().model_copy(update={"max_faults": REPEATED, "timeout_s": entry.timeout_s})
        self._top_k, self._timeout_s = entry.top_k, entry.timeout_s
        self._store: Store | None = None
        self._opening = asyncio.Lock()
        self.fingerprint = fingerprint or _fingerprint_of(self._config)
        """The store's fingerprint."""
        identity = [self._config.model_dump(mode="json"), entry.top_k, self.declarations()]
        self.sha256 = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def declarations(self) -> list[dict[str, Any]]:
        """Return the tool in OpenAI's format."""
        function = {"name": self.name, "description": DESCRIPTION, "parameters": dict(PARAMETERS)}
        return [{"type": "function", "function": function}]

    @asynccontextmanager
    async def open(self, task: Task, seed: int) -> AsyncIterator[OpenTools]:
        """Open the tool for an episode; the first one of a process opens the store.

        Raises:
            ToolFault: The store has changed since the run began.
            RetrievalError: The store cannot be asked.
        """
        store = await self._opened()
        hidden = ids_in(task.item, self._config.exclude)

        async def call(arguments: Mapping[str, Any]) -> FoundPassages:
            return await self._search(store, arguments["query"], hidden)

        yield OpenTools(
            tools=(
                Tool(
                    name=self.name,
                    description=DESCRIPTION,
                    parameters=PARAMETERS,
                    call=call,
                    timeout_s=self._timeout_s,
                ),
            )
        )

    async def _opened(self) -> Store:
        async with self._opening:
            if self._store is None:
                store = open_store(self._config)
                now = await Searcher(self._config, store).fingerprint()
                if now != self.fingerprint:
                    raise ToolFault(
                        f"tool {self.name}: the store has changed since the run began (fingerprint {now} instead of "
                        f"{self.fingerprint})"
                    )
                self._store = store
            return self._store

    async def _search(self, store: Store, text: str, hidden: frozenset[str]) -> FoundPassages:
        """Search once.

        Raises:
            ToolError: The query is empty.
            ToolFault: Too many searches failed.
        """
        if not text.strip():
            raise ToolError("the query is empty; write what to search for")
        query = Query(text=text, filters=self._config.filters)
        num_wanted = self._top_k + (SPARE if hidden else 0)
        key, least = key_of(query, num_wanted), self._config.min_score
        try:
            found = (await Searcher(self._config, store).search({key: query}, num_wanted))[key]
        except RetrievalError as error:
            raise ToolFault(f"tool {self.name}: {REPEATED + 1} searches failed: {error.__cause__}") from error
        fitting = [each for each in found if each.id not in hidden and (least is None or each.score >= least)]
        passages = [each.to_json() for each in fitting[: self._top_k]]
        text = "\n".join(f"[{passage['id']}] {passage['text']}" for passage in passages)
        return FoundPassages(text=text or NOTHING, passages=passages)


def _fingerprint_of(config: RetrievalConfig) -> str:
    """Ask a store for its fingerprint.

    Raises:
        ValueError: It cannot be asked, or does not fit the settings.
    """
    deadline_s = ASIDE_S + (REPEATED + 1) * config.start_timeout_s
    try:
        fingerprint, _ = within(
            lambda: asyncio.run(find(config, [], 1)), what=f"the store of {config.kind}", deadline_s=deadline_s
        )
    except UsageError as error:
        raise ValueError("; ".join(error.problems)) from error
    except (RetrievalError, WaitTimeout) as error:
        raise ValueError(f"the store ({config.kind}) cannot be asked: {error.__cause__ or error}") from error
    return fingerprint
