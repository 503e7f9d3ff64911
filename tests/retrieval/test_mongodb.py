"""The store in MongoDB: real pymongo against a server on loopback that checks as Atlas does."""

import asyncio
import datetime

import pytest

pytest.importorskip("pymongo", reason="pip install 'rft[mongodb]'")

import numpy as np

from rft.config.embedders.voyage import VoyageEmbedderConfig
from rft.config.retrieval.mongodb import MongodbRetrievalConfig
from rft.retrieval.passages import Passage, Query
from rft.retrieval.stores import mongodb
from rft.retrieval.stores.mongodb import MongodbStore
from rft.retrieval.stores.protocol import StoreFault
from tests.retrieval.mongodb_server import PASSWORD, MongodbServer, Refused

VECTORS = {"repot": [1.0, 0.0], "water": [0.0, 1.0], "both": [0.6, 0.8]}


class WordEmbedder:
    """Knows the vectors of three words."""

    model = "words-1"
    dimensions = 2

    async def embed_queries(self, texts):
        return np.array([VECTORS[text] for text in texts], np.float32)

    async def close(self):
        pass


def documents():
    day = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
    return [
        {"_id": 1, "text": "Repot.", "embedding": [2.0, 0.0], "kind": "care", "embedding_model": "words-1"},
        {"_id": "b", "text": "Water.", "embedding": [0.0, 3.0], "kind": "care", "day": day, "tags": [{"a": b"x"}]},
        {"_id": "c", "text": "Both.", "embedding": [3.0, 4.0], "kind": "news"},
    ]


def run(work, monkeypatch, *, indexed=(2, "kind"), docs=None, polls=0, user="ada", password=PASSWORD, **keys):
    """`await work(server, store)` with a server of three documents."""

    async def main():
        server = MongodbServer(documents() if docs is None else docs, polls_until_ready=polls)
        if indexed:
            server.add_index("posts_vector", *indexed)
        async with server:
            monkeypatch.setenv("MONGODB_URI", server.uri(user, password))
            monkeypatch.setenv("VOYAGE_API_KEY", "pa-only-in-tests")
            monkeypatch.setattr(mongodb, "open_embedder", lambda config: WordEmbedder())
            monkeypatch.setattr(mongodb, "POLL_S", 0.0)
            options = {"database": "house", "collection": "posts", "index": "posts_vector"} | keys
            store = MongodbStore(MongodbRetrievalConfig(embedder=VoyageEmbedderConfig(), **options))
            try:
                return await work(server, store)
            finally:
                await store.close()

    return asyncio.run(main())


def refusal(monkeypatch, kind=ValueError, **keys):
    async def work(server, store):
        with pytest.raises(kind) as caught:
            await store.fingerprint()
            await store.search([Query(text="repot", filters=store._config.filters)], 2)
        return str(caught.value)

    message = run(work, monkeypatch, **keys)
    assert PASSWORD not in message
    return message


def test_a_search(monkeypatch):
    async def work(server, store):
        assert len(await store.fingerprint()) == 16
        queries = [Query(text="repot"), Query(text="water", filters={"kind": ["care", "shop"]})]
        return server.searches, await store.search(queries, 2)

    searches, (first, second) = run(work, monkeypatch)
    # Cosines 1 and 3/5, which Atlas shows as (1 + cosine) / 2.
    assert first == [
        Passage(id="1", text="Repot.", metadata={"kind": "care", "embedding_model": "words-1"}, score=1.0),
        Passage(id="c", text="Both.", metadata={"kind": "news"}, score=pytest.approx(0.8)),
    ]
    assert [(passage.id, passage.score) for passage in second] == [("b", 1.0), ("1", 0.5)]
    assert second[0].metadata == {"kind": "care", "day": "2026-11-01T00:00:00+00:00", "tags": [{"a": "b'x'"}]}
    shared = {"index": "posts_vector", "path": "embedding", "limit": 2, "exact": True}
    condition = {"$and": [{"kind": {"$in": ["care", "shop"]}}]}
    assert sorted(searches, key=len) == [
        shared | {"queryVector": [1.0, 0.0]},
        shared | {"queryVector": [0.0, 1.0], "filter": condition},
    ]


def test_an_approximate_search_names_its_candidates(monkeypatch):
    async def work(server, store):
        await store.fingerprint()
        await store.search([Query(text="repot")], 2)
        return server.searches[0]

    assert run(work, monkeypatch, exact=False)["numCandidates"] == 40
    assert run(work, monkeypatch, exact=False, num_candidates=1)["numCandidates"] == 2


def test_an_index_is_created_and_awaited(monkeypatch):
    async def work(server, store):
        await store.fingerprint()
        found = await store.search([Query(text="water", filters={"kind": "news"})], 5)
        return server.indexes["posts_vector"]["fields"], found

    keys = {"indexed": (), "polls": 3, "create_index": True, "filters": {"kind": "news"}, "filter_fields": ["day"]}
    fields, found = run(work, monkeypatch, **keys)
    assert fields == [
        {"type": "vector", "path": "embedding", "numDimensions": 2, "similarity": "cosine"},
        {"type": "filter", "path": "day"},
        {"type": "filter", "path": "kind"},
    ]
    assert [[passage.id for passage in passages] for passages in found] == [["c"]]


def test_the_fingerprint_follows_index_and_settings(monkeypatch):
    async def work(server, store):
        return await store.fingerprint()

    fingerprints = [
        run(work, monkeypatch),
        run(work, monkeypatch, docs=documents()[:2]),
        run(work, monkeypatch, indexed=(2,)),
        run(work, monkeypatch, exact=False),
    ]
    assert len({*fingerprints, run(work, monkeypatch)}) == 4


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"indexed": ()}, "has no vector index 'posts_vector'; set retrieval.index"),
        ({"indexed": (3,)}, "its vectors have 3 numbers, and those of the embedder words-1 have 2"),
        ({"path": "vector"}, "it has no vectors of 'vector'; set retrieval.path (it has: embedding)"),
        ({"filters": {"author": "x"}}, "does not declare the filter fields author (declared: kind)"),
        ({"text_field": "body"}, "no text in 'body' but _id, text, kind"),
        ({"docs": []}, "no document has a vector in 'embedding'"),
        ({"model_field": "kind"}, "care embedded document 1, and retrieval.embedder is words-1"),
        ({"password": "wrong"}, "the user or the password is wrong"),
        ({"user": "eve"}, "the user or the password is wrong"),
    ],
)
def test_mistakes_are_named_before_the_first_search(monkeypatch, keys, message):
    assert message in refusal(monkeypatch, **keys)


def test_an_index_that_is_never_ready(monkeypatch):
    message = refusal(monkeypatch, StoreFault, polls=10**9, index_timeout_s=0.05)
    assert "timed out after 0.05 s waiting for the index 'posts_vector'" in message
    assert "BUILDING" in message


def test_uris(monkeypatch):
    config = MongodbRetrievalConfig(database="d", collection="c", embedder=VoyageEmbedderConfig())
    monkeypatch.setenv("VOYAGE_API_KEY", "pa-only-in-tests")
    monkeypatch.delenv("MONGODB_URI", raising=False)
    with pytest.raises(ValueError, match="the environment variable MONGODB_URI is not set"):
        MongodbStore(config)
    monkeypatch.setenv("MONGODB_URI", f"postgres://ada:{PASSWORD}@host")
    with pytest.raises(ValueError, match="the URI in MONGODB_URI cannot be used") as caught:
        asyncio.run(MongodbStore(config).fingerprint())
    assert PASSWORD not in str(caught.value)


FAULTS = ["silence", "close", "half", "wrong", Refused(50, "operation exceeded time limit"), Refused(8, "INITIAL_SYNC")]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_faults_are_never_an_empty_result(monkeypatch, fault):
    async def work(server, store):
        server.fault = fault
        searches = [store.search([Query(text="both")], 2) for _ in range(mongodb.MAX_CONCURRENT)]
        return await asyncio.gather(*searches, return_exceptions=True)

    outcomes = run(work, monkeypatch, timeout_s=0.2)
    assert [type(outcome) for outcome in outcomes] == [StoreFault] * mongodb.MAX_CONCURRENT


def test_an_index_that_vanishes_is_a_fault(monkeypatch):
    async def work(server, store):
        await store.fingerprint()
        nothing = await store.search([Query(text="both", filters={"kind": "shop"})], 2)
        del server.indexes["posts_vector"]  # MongoDB answers with nothing, and no error
        with pytest.raises(StoreFault, match="the index 'posts_vector' cannot be searched any more"):
            await store.search([Query(text="both")], 2)
        return nothing

    assert run(work, monkeypatch) == [[]]
