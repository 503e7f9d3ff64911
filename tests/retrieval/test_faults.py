"""200 faults of services behind HTTP, all at once: none becomes an empty result."""

import asyncio
import json

import pytest

from rft.config.embedders.voyage import VoyageEmbedderConfig
from rft.config.retrieval.http import HttpRetrievalConfig
from rft.errors import RetrievalError
from rft.retrieval.build import open_embedder, open_store
from rft.retrieval.found import key_of
from rft.retrieval.passages import Query
from rft.retrieval.searching import Searcher
from rft.retrieval.stores.protocol import StoreFault

FAULTS = {
    "no answer": None,
    "closed": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "half a body": b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"results": [[]',
    "no HTTP": b"\x16\x03\x01\x02\x00",
    "500": (500, {"detail": "Our fault."}),
    "503": (503, {"detail": "The index is being built."}),
    "429": (429, {"detail": "Slower."}),
    "no JSON": (200, "<html>login</html>"),
    "another form": (200, {"results": [], "data": []}),
    "wrong dimension": (200, {"results": [[{}]], "data": [{"index": 0, "embedding": [1.0, 2.0, 3.0]}]}),
}


def reply_of(fault):
    if fault is None or isinstance(fault, bytes):
        return fault
    status, body = fault
    text = (body if isinstance(body, str) else json.dumps(body)).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(text), text)


@pytest.mark.parametrize("service", ["store", "embedder"])
def test_faults_are_never_an_empty_result(monkeypatch, service):
    monkeypatch.setenv("VOYAGE_API_KEY", "pa-only-in-tests")
    open_connections = []

    async def answer(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        reply = reply_of(FAULTS[head.split(b"/")[1].decode().replace("%20", " ")])
        if reply is None:
            open_connections.append(writer)  # half open: taken, and never answered
            return
        writer.write(reply)
        writer.close()

    async def ask(url):
        if service == "store":
            return await open_store(HttpRetrievalConfig(url=url, timeout_s=0.5)).search([Query(text="orchids")], 2)
        config = VoyageEmbedderConfig(url=url, dimensions=2, retries=0, request_timeout_s=0.5)
        return await open_embedder(config).embed_queries(["orchids"])

    async def main():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        faults = [list(FAULTS)[number % len(FAULTS)] for number in range(100)]
        asked = [ask(f"http://127.0.0.1:{port}/{fault}/v1") for fault in faults]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        server.close()
        for writer in open_connections:
            writer.close()
        return list(zip(faults, outcomes, strict=True))

    outcomes = asyncio.run(main())
    assert [(fault, type(outcome)) for fault, outcome in outcomes] == [(fault, StoreFault) for fault, _ in outcomes]
    assert {fault for fault, outcome in outcomes if "no reply within 0.5 s" in str(outcome)} >= {"no answer"}


def test_the_budget_ends_with_the_cause(voyage):
    config = HttpRetrievalConfig(url=f"{voyage.url}/search", max_faults=2)
    for _ in range(3):
        voyage.replies(503, {"detail": "The index is being built."}, **{"Retry-After": "9"})
    pauses = []

    async def no_sleep(seconds):
        pauses.append(seconds)

    async def search():
        searcher = Searcher(config, open_store(config), sleep=no_sleep)
        query = Query(text="orchids")
        await searcher.search({key_of(query, 2): query}, 2)

    with pytest.raises(RetrievalError) as caught:
        asyncio.run(search())
    assert "3 searches failed, and retrieval.max_faults=2" in str(caught.value)
    assert "The index is being built." in str(caught.value)
    assert pauses == [9.0, 9.0]  # as the service asks
