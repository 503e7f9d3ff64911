"""Embedders, reranker and HTTP store against servers on loopback that check, and fail by a script."""

import asyncio
import base64
import math
import socket

import numpy as np
import pytest

from rft.config.embedders.openai import OpenAIEmbedderConfig
from rft.config.embedders.voyage import VoyageEmbedderConfig
from rft.config.reranker import RerankerConfig
from rft.config.retrieval.http import HttpRetrievalConfig
from rft.retrieval.build import open_embedder, open_store
from rft.retrieval.embedders.vectors import MAX_CHARS, MAX_TEXTS
from rft.retrieval.passages import Passage, Query
from rft.retrieval.reranked import RerankedStore
from rft.retrieval.stores.protocol import StoreFault
from tests.retrieval.voyage_server import SILENCE, vector_of


def voyage_embedder(server, **keys):
    return open_embedder(VoyageEmbedderConfig(url=server.url, **{"dimensions": 256} | keys))


def http_store(url, **keys):
    return open_store(HttpRetrievalConfig(url=url, **keys))


def queries_of(embedder, *texts):
    return asyncio.run(embedder.embed_queries(list(texts)))


def fault(work, kind=StoreFault):
    with pytest.raises(kind) as caught:
        asyncio.run(work)
    return str(caught.value)


@pytest.mark.parametrize("shape", ["base64", "list"])
def test_voyage_tells_queries_from_documents(voyage, shape):
    voyage.shape = shape
    embedder = voyage_embedder(voyage)
    texts = ["repot orchids", "shard keys"]
    documents = asyncio.run(embedder.embed_documents(texts))
    queries = queries_of(embedder, *texts)
    assert documents.dtype == queries.dtype == np.float32
    np.testing.assert_allclose(documents, [vector_of(text, "document", 256) for text in texts], rtol=1e-6)
    np.testing.assert_allclose(queries, [vector_of(text, "query", 256) for text in texts], rtol=1e-6)
    assert [(path, body["input_type"]) for path, body in voyage.requests] == [
        ("embeddings", "document"),
        ("embeddings", "query"),
    ]
    assert voyage.requests[0][1] == {
        "input": texts,
        "model": "voyage-3.5",
        "input_type": "document",
        "output_dimension": 256,
        "encoding_format": "base64",
        "truncation": False,
    }


def test_long_lists_go_in_several_requests(voyage):
    texts = [f"text {number}" for number in range(MAX_TEXTS + 1)]
    vectors = asyncio.run(voyage_embedder(voyage).embed_documents(texts))
    assert [len(body["input"]) for _, body in voyage.requests] == [MAX_TEXTS, 1]
    np.testing.assert_allclose(vectors[-1], vector_of(texts[-1], "document", 256), rtol=1e-6)
    del voyage.requests[:]
    long = "x " * (MAX_CHARS // 4)  # half of a request
    voyage.max_chars = 4 * MAX_CHARS
    asyncio.run(voyage_embedder(voyage).embed_documents([long, long, long, 2 * long + "x", "y"]))
    assert [len(body["input"]) for _, body in voyage.requests] == [2, 1, 1, 1]


def test_texts_without_content_are_not_sent(voyage):
    vectors = queries_of(voyage_embedder(voyage), "", "orchids", " ")
    assert vectors.any(axis=1).tolist() == [False, True, False]
    assert [body["input"] for _, body in voyage.requests] == [["orchids"]]
    assert queries_of(voyage_embedder(voyage)).shape == (0, 256)


def test_voyage_is_asked_again_after_429(voyage, asked_pauses):
    voyage.replies(429, {"detail": "You have exceeded your rate limit."}, **{"Retry-After": "7"})
    voyage.replies(503, {"detail": "The servers are overloaded."})
    assert queries_of(voyage_embedder(voyage), "orchids").shape == (1, 256)
    assert asked_pauses == [7.0, 0.0]


@pytest.mark.parametrize(
    ("keys", "text", "message"),
    [
        ({"model": "voyage-9"}, "x", "Model voyage-9 is not supported"),
        ({"dimensions": 300}, "x", "The output_dimension 300 is not supported"),
        ({}, "x" * 32_001, "exceeds the context length"),
        ({"api_key_env": None}, "x", "API key is invalid"),
    ],
)
def test_what_voyage_refuses(voyage, keys, text, message):
    refusal = fault(voyage_embedder(voyage, **keys).embed_queries([text]), ValueError)
    assert message in refusal
    assert voyage.KEY not in refusal
    assert len(voyage.requests) == 1  # it is not asked again


def test_a_key_that_is_not_there(voyage):
    with pytest.raises(ValueError, match="the environment variable NO_SUCH_KEY is not set"):
        voyage_embedder(voyage, api_key_env="NO_SUCH_KEY")


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[0.5] * 3], "vectors of 3 numbers, but dimensions=256"),
        ([], "0 vectors for 1 texts"),
        ([[0.0] * 256], "a vector of zeros"),
        ([[math.inf] * 256], "a number that is not finite"),
        ([["a"] * 256], "no list of numbers"),
        (["???"], "does not follow VoyageAI's API"),
        ([base64.b64encode(b"12345").decode()], "does not follow VoyageAI's API"),
    ],
)
def test_vectors_that_cannot_be_used(voyage, vectors, message):
    data = [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    voyage.replies(200, {"object": "list", "data": data})
    assert message in fault(voyage_embedder(voyage, retries=0).embed_queries(["x"]))


def test_silence_and_half_open_connections(voyage):
    voyage.replies(200, SILENCE)
    embedder = voyage_embedder(voyage, retries=0, request_timeout_s=0.2)
    assert "no reply within 0.2 s (1 of 1 attempts)" in fault(embedder.embed_queries(["x"]))
    with socket.create_server(("127.0.0.1", 0)) as listening:  # accepts connections, and never reads
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert "no reply within 0.2 s" in fault(http_store(url, timeout_s=0.2).search([Query(text="x")], 1))
    assert "ConnectError" in fault(http_store(url).search([Query(text="x")], 1))


def test_openai_embedder(model_server):
    config = OpenAIEmbedderConfig(
        url=model_server.url, model="e5", dimensions=2, query_prefix="query: ", document_prefix="passage: ", retries=0
    )
    embedder = open_embedder(config)
    assert (embedder.model, embedder.dimensions) == ("e5 with prefixes ['query: ', 'passage: ']", 2)
    model_server.embeds([3.0, 4.0], [0.0, 2.0])
    np.testing.assert_allclose(asyncio.run(embedder.embed_documents(["a", "b"])), [[0.6, 0.8], [0, 1]], rtol=1e-6)
    model_server.embeds([1.0, 0.0])
    assert queries_of(embedder, "a").tolist() == [[1.0, 0.0]]
    assert [body["input"] for _, _, body in model_server.requests] == [["passage: a", "passage: b"], ["query: a"]]
    model_server.embeds([1.0, 2.0, 3.0])
    assert "vectors of 3 numbers, but dimensions=2" in fault(embedder.embed_queries(["a"]))
    model_server.replies(500, {"error": {"message": "out of memory"}})
    assert "status 500" in fault(embedder.embed_queries(["a"]))
    model_server.replies(401, {"error": {"message": "who are you"}})
    assert "status 401" in fault(embedder.embed_queries(["a"]), ValueError)


def reranked_store(url, passages, **keys):
    class FoundAlready:
        async def fingerprint(self):
            return "0123456789abcdef"

        async def search(self, queries, top_k):
            return [passages[:top_k] for _ in queries]

    return RerankedStore(FoundAlready(), RerankerConfig(url=url, retries=0, **keys))


def test_voyage_reranks(voyage):
    passages = [
        Passage(id="a", text="shard keys", score=0.9),
        Passage(id="b", text="repot orchids", metadata={"kind": "care"}, score=0.1),
    ]
    store = reranked_store(voyage.url, passages)
    query = Query(text="when to repot orchids")
    best = Passage(id="b", text="repot orchids", metadata={"kind": "care"}, score=0.5)  # 2 of 4 words
    assert asyncio.run(store.search([query, query], 1)) == [[best], [best]]
    assert [passage.id for passage in asyncio.run(store.search([query], 5))[0]] == ["b", "a"]
    assert asyncio.run(reranked_store(voyage.url, []).search([query], 5)) == [[]]
    assert len({asyncio.run(reranked_store(voyage.url, [], candidates=n).fingerprint()) for n in (5, 6)}) == 2
    voyage.replies(200, {"data": [{"index": 7, "relevance_score": 0.5}]})
    assert "does not rank 1 of the 2 passages" in fault(store.search([query], 1))
    voyage.replies(200, {"data": [{"index": 0, "relevance_score": "high"}]})
    assert "does not follow VoyageAI's API" in fault(store.search([query], 1))
    with pytest.raises(StoreFault) as busy:
        voyage.replies(429, {"detail": "Slower."}, **{"Retry-After": "7"})
        asyncio.run(store.search([query], 1))
    assert busy.value.retry_after_s == 7.0


def test_open_store_reranks(monkeypatch):
    monkeypatch.setenv("VOYAGE_API_KEY", "pa-only-in-tests")
    assert isinstance(open_store(HttpRetrievalConfig(url="http://host", rerank=RerankerConfig())), RerankedStore)


def found(*lists, fingerprint="v1"):
    return {"fingerprint": fingerprint, "results": [list(passages) for passages in lists]}


P7 = {"id": "p7", "text": "Repot every two years.", "score": 0.5, "metadata": {"kind": "care"}}


def test_http_store(voyage):
    store = http_store(f"{voyage.url}/search", api_key_env="VOYAGE_API_KEY")
    voyage.replies(200, {"fingerprint": "v1"})
    fingerprint = asyncio.run(store.fingerprint())
    voyage.replies(200, found(fingerprint="v2"))
    assert asyncio.run(http_store(f"{voyage.url}/search").fingerprint()) != fingerprint
    voyage.replies(200, found([P7 | {"id": "p9"}, P7], []))
    passage = Passage(id="p7", text="Repot every two years.", metadata={"kind": "care"}, score=0.5)
    queries = [Query(text="repot", filters={"kind": "care"}), Query(text="nothing")]
    first, second = asyncio.run(store.search(queries, 2))
    assert (first[0], first[1].id) == (passage, "p9")  # equal scores are ordered by id
    assert second == []  # the service said so
    asked = [{"text": "repot", "filters": {"kind": "care"}}, {"text": "nothing", "filters": {}}]
    assert voyage.requests[0] == ("search", {"queries": [], "top_k": 1})
    assert voyage.requests[2] == ("search", {"queries": asked, "top_k": 2})
    voyage.replies(200, found([P7], fingerprint="v2"))
    assert "the index has changed from 'v1' to 'v2'" in fault(store.search(queries[:1], 1), ValueError)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ([], "breaks the contract"),
        ({"results": [[]]}, "'fingerprint'"),
        (found(), "0 lists of passages for 1 queries"),
        (found([P7, P7]), "more than 2 passages, or one of them twice"),
        (found([P7 | {"id": str(number)} for number in range(3)]), "more than 2 passages"),
        (found([P7 | {"text": ""}]), "text must be a text that is not empty"),
        (found([P7 | {"score": True}]), "score must be a finite number"),
        (found([P7 | {"metadata": 3}]), "metadata must be an object"),
        (found([{}]), "'score'"),
    ],
)
def test_replies_that_break_the_contract_of_the_http_store(voyage, reply, message):
    voyage.replies(200, reply)
    assert message in fault(http_store(f"{voyage.url}/search").search([Query(text="x")], 2))
