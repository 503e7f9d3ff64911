"""A store in PostgreSQL with the extension pgvector, with asyncpg. A score is the cosine of the angle, from -1 to 1."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rft.config.retrieval.pgvector import PgvectorRetrievalConfig
from rft.imports import require_packages
from rft.redaction import hide, hide_in_message
from rft.retrieval.build import open_embedder
from rft.retrieval.json_service import secret_of
from rft.retrieval.passages import Passage, Query
from rft.retrieval.stores.protocol import StoreFault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

MAX_CONNECTIONS = 8
OWN_SHARE = 0.8
"""Share of the deadline of a search for asyncpg's own deadlines, whose errors name the cause."""
SHOWN_CHARS = 300


class PgvectorStore:
    """A table with vectors.

    Args:
        config: The settings.

    Raises:
        InstallError: asyncpg is not installed.
        ValueError: A variable with a secret is not set.
    """

    def __init__(self, config: PgvectorRetrievalConfig) -> None:
        require_packages("retrieval=pgvector", "asyncpg")
        self._config = config
        self._uri = secret_of(config.uri_env)
        try:
            _ = urlsplit(self._uri).port
        except ValueError:  # whose message may hold a part of the password
            raise ValueError(
                f"the URI in {config.uri_env} cannot be used: quote special characters in it, as %2F for /"
            ) from None
        self._embedder = open_embedder(config.embedder)
        self._where = f"PostgreSQL table {config.table}"
        self._table = ".".join(map(_quoted, config.table.split(".")))
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()

    async def fingerprint(self) -> str:
        """Return 16 hexadecimal digits of all passages, the embedding model and the settings.

        Raises:
            ValueError: The table does not fit the settings, or other models embedded its passages.
            StoreFault: The server cannot be asked.
        """
        config, embedder = self._config, self._embedder
        row = f"{_quoted(config.id_column)}::text, {_quoted(config.text_column)}, {self._metadata()}::text"
        digests = f"('x' || left(md5(jsonb_build_array({row})::text), 16))::bit(64)::bigint"
        async with self._connection() as connection:
            await self._check(connection)
            content = await connection.fetchrow(f"SELECT count(*), bit_xor({digests}) FROM {self._table}")
        parts = [
            config.table,
            config.vector_column,
            config.exact,
            embedder.model,
            embedder.dimensions,
            *content.values(),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    async def search(self, queries: Sequence[Query], top_k: int) -> list[list[Passage]]:
        """Return the passages of each query, best first.

        Raises:
            ValueError: The table does not fit the settings, or has no metadata to filter by.
            StoreFault: The search failed.
        """
        for query in queries:
            if query.filters and self._config.metadata_column is None:
                raise ValueError("retrieval.filters need retrieval.metadata_column")
            if not query.text.strip():
                raise ValueError("a query without words cannot be embedded")
        vectors = await self._embedder.embed_queries([query.text for query in queries])
        found = []
        async with self._connection() as connection, connection.transaction():
            option = "enable_indexscan = off" if self._config.exact else "hnsw.iterative_scan = strict_order"
            await connection.execute(f"SET LOCAL {option}")
            for query, vector in zip(queries, vectors, strict=True):
                found.append(await self._search(connection, query.filters, vector.tolist(), top_k))
        return found

    async def close(self) -> None:
        """Close the connections."""
        await self._embedder.close()
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

    async def _search(
        self, connection: asyncpg.Connection, filters: Mapping[str, Any], vector: list[float], top_k: int
    ) -> list[Passage]:
        config = self._config
        distance = f"{_quoted(config.vector_column)} <=> $1::text::vector"
        conditions, values = [f"{_quoted(config.vector_column)} IS NOT NULL"], []
        for name, allowed in sorted(filters.items()):
            values += [name, [json.dumps(value) for value in (allowed if isinstance(allowed, list) else [allowed])]]
            place = len(values)  # $1 is the vector
            conditions.append(f"{self._metadata()} -> ${place}::text = ANY(${place + 1}::text[]::jsonb[])")
        rows = await connection.fetch(
            f"SELECT {_quoted(config.id_column)}::text AS id, {_quoted(config.text_column)} AS text, "
            f"{self._metadata()} AS metadata, 1 - ({distance}) AS score FROM {self._table} "
            f"WHERE {' AND '.join(conditions)} ORDER BY {distance}, 1 LIMIT {top_k:d}",
            json.dumps(vector),
            *values,
        )
        passages = [
            Passage(id=row["id"], text=row["text"], metadata=json.loads(row["metadata"]), score=row["score"])
            for row in rows
        ]
        for passage in passages:
            if not isinstance(passage.text, str) or not isinstance(passage.metadata, dict):
                raise ValueError(f"{config.table}: passage {passage.id} has no text, or metadata that is no object")
            if not math.isfinite(passage.score):
                raise ValueError(f"{config.table}: the query or passage {passage.id} has a vector of zeros")
        return sorted(passages, key=lambda passage: (-passage.score, passage.id))

    def _metadata(self) -> str:
        column = self._config.metadata_column
        return "'{}'::jsonb" if column is None else f"coalesce({_quoted(column)}, '{{}}'::jsonb)"

    async def _check(self, connection: asyncpg.Connection) -> None:
        """Require a table with passages whose vectors are those of the embedder."""
        config, embedder = self._config, self._embedder
        vector = _quoted(config.vector_column)
        row = await connection.fetchrow(
            f"SELECT vector_dims({vector}) AS length FROM {self._table} WHERE {vector} IS NOT NULL LIMIT 1"
        )
        if row is None:
            raise ValueError(f"{self._where}: no passage has a vector in '{config.vector_column}'")
        if row["length"] != embedder.dimensions:
            raise ValueError(
                f"{self._where}: its vectors have {row['length']} numbers, and those of the embedder {embedder.model} "
                f"have {embedder.dimensions}; use the model that embedded the passages"
            )
        model = f"{self._metadata()} ->> $1"
        other = await connection.fetchrow(
            f"SELECT {_quoted(config.id_column)}::text AS id, {model} AS model FROM {self._table} "
            f"WHERE {model} <> $2 LIMIT 1",
            config.model_field,
            embedder.model,
        )
        if other is not None:
            raise ValueError(
                f"{self._where}: {other['model']} embedded passage {other['id']}, and retrieval.embedder is "
                f"{embedder.model}; use the same model"
            )

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Lend a connection, and say what the errors of its use mean."""
        import asyncpg

        try:
            pool = await self._open()
            async with pool.acquire(timeout=OWN_SHARE * self._config.timeout_s) as connection:
                yield connection
        except asyncpg.ClientConfigurationError as error:
            reason = self._reason(error)
            raise ValueError(f"the URI in {self._config.uri_env} cannot be used: {reason}") from None
        except (
            asyncpg.InvalidAuthorizationSpecificationError,  # a wrong password, too
            asyncpg.InvalidCatalogNameError,
            asyncpg.InsufficientPrivilegeError,
            asyncpg.SyntaxOrAccessError,  # no such table, column, type or function
            asyncpg.DatatypeMismatchError,
        ) as error:
            raise ValueError(f"{self._where}: {self._reason(error)}") from None
        except (
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            OSError,
            TimeoutError,
        ) as error:
            raise StoreFault(f"{self._where}: {type(error).__name__}: {self._reason(error)}") from None

    async def _open(self) -> asyncpg.Pool:
        """Return the pool of connections, which belongs to the running event loop."""
        import asyncpg

        async with self._opening:
            if self._pool is None:
                limit_s = OWN_SHARE * self._config.timeout_s
                self._pool = await asyncpg.create_pool(
                    self._uri, min_size=0, max_size=MAX_CONNECTIONS, timeout=limit_s, command_timeout=limit_s
                )
            return self._pool

    def _reason(self, error: Exception) -> str:
        """Return the message of a library without secrets."""
        password = self._uri.rpartition("@")[0].rpartition(":")[2]
        secrets = [self._uri, *([password] if password else [])]
        return hide_in_message(hide(str(error), secrets))[:SHOWN_CHARS]


def _quoted(name: str) -> str:
    """Return a name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'
