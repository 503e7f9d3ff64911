"""Faults of a store are repeated within their budget, and never become an empty result."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rft.config.retrieval.local import LocalRetrievalConfig
from rft.errors import RetrievalError, UsageError
from rft.retrieval.found import keep, key_of, read_found
from rft.retrieval.passages import Passage, Query
from rft.retrieval.searching import Searcher
from rft.retrieval.stores.protocol import StoreFault

QUERIES = {key_of(query, 2): query for query in (Query(text=f"q{number}") for number in range(5))}


class Scripted:
    """A store that follows a script: an error, a result to return, or None for a proper result."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.calls: list[int] = []
        self.num_asked = 0

    async def fingerprint(self) -> str:
        self.num_asked += 1
        return "9b2e51c07d44a1f0"

    async def search(self, queries: Sequence[Query], top_k: int) -> list[list[Passage]]:
        self.calls.append(len(queries))
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            raise step
        return [[Passage(id="p", text=query.text, score=1.0)] for query in queries] if step is None else step

    async def close(self) -> None:
        pass


def search(store: Scripted, pauses: list[float] | None = None, **settings: Any) -> dict[str, list[Passage]]:
    async def sleep(seconds: float) -> None:
        if pauses is not None:
            pauses.append(seconds)

    config = LocalRetrievalConfig(index="", batch_queries=2, **settings)
    return asyncio.run(Searcher(config, store, sleep=sleep).search(QUERIES, 2))


def test_faults_are_repeated_and_nothing_is_lost() -> None:
    twice = [Passage(id="p", text="", score=1.0)] * 2
    pauses: list[float] = []
    store = Scripted(StoreFault("503"), StoreFault("429", retry_after_s=7.0), None, [], [twice, []])
    found = search(store, pauses)
    assert {key: passages[0].text for key, passages in found.items()} == {
        key: query.text for key, query in QUERIES.items()
    }
    assert store.calls == [2, 2, 2, 2, 2, 2, 1]
    assert pauses == [0.5, 7.0, 0.5, 1.0]


def test_the_budget_ends_the_search_with_its_causes() -> None:
    store = Scripted(*[StoreFault("the index is being built")] * 3)
    with pytest.raises(RetrievalError) as caught:
        search(store, max_faults=2)
    assert str(caught.value).startswith("retrieval=local: 3 searches failed, and retrieval.max_faults=2 are repeated")
    assert "  - the index is being built" in str(caught.value)
    assert store.calls == [2, 2, 2]


def test_a_search_without_an_answer_is_a_fault() -> None:
    class Silent(Scripted):
        async def search(self, queries: Sequence[Query], top_k: int) -> list[list[Passage]]:
            await asyncio.Event().wait()
            return []

    with pytest.raises(RetrievalError, match=r"timed out after 0.01 s waiting for passages of 2 queries"):
        search(Silent(), max_faults=0, timeout_s=0.01)


def test_a_mistake_of_the_users_is_not_repeated() -> None:
    store = Scripted(ValueError("there is no collection posts"))
    with pytest.raises(UsageError, match="there is no collection posts"):
        search(store)
    assert store.calls == [2]


def test_a_cache_asks_only_for_new_queries(tmp_path: Path) -> None:
    known, *_ = QUERIES
    keep(tmp_path / "passages-9b2e51c07d44a1f0.jsonl", {known: [Passage(id="kept", text="", score=0.5)]})
    first, second = Scripted(), Scripted()
    found = search(first, cache_folder=str(tmp_path))
    assert found[known][0].id == "kept"
    assert (first.calls, search(second, cache_folder=str(tmp_path)), second.calls) == ([2, 2], found, [])


def test_the_fingerprint_is_asked_for_once(tmp_path: Path) -> None:
    async def both(searcher: Searcher) -> None:
        assert await searcher.fingerprint() == "9b2e51c07d44a1f0"
        await searcher.search(QUERIES, 2)

    store = Scripted()
    asyncio.run(both(Searcher(LocalRetrievalConfig(index="", cache_folder=str(tmp_path)), store)))
    assert store.num_asked == 1


def test_a_damaged_line_is_named_and_an_incomplete_last_one_skipped(tmp_path: Path) -> None:
    file = tmp_path / "passages.jsonl"
    keep(file, {"a": []})
    file.write_text(file.read_text() + '{"key": "b", "pass')
    assert read_found(file) == {"a": []}
    keep(file, {"c": []})  # does not continue the incomplete line
    assert read_found(file) == {"a": [], "c": []}
    file.write_text("[]\n" + file.read_text())
    with pytest.raises(UsageError, match=r"passages.jsonl:1 is damaged"):
        read_found(file)
