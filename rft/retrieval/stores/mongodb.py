"""A store in MongoDB: `$vectorSearch` on a collection with a vector index, with pymongo.

A search in an index that does not exist finds nothing, and MongoDB reports no error. The index is therefore compared
with the settings before the first search, and looked up again whenever a query finds nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from rft.config.retrieval.mongodb import MongodbRetrievalConfig
from rft.errors import WaitTimeout
from rft.imports import require_packages
from rft.redaction import hide, hide_in_message
from rft.retrieval.build import open_embedder
from rft.retrieval.json_service import secret_of
from rft.retrieval.passages import Passage, Query
from rft.retrieval.stores.mongodb_documents import passage_of, pipeline_of
from rft.retrieval.stores.protocol import StoreFault
from rft.waiting import wait_for

if TYPE_CHECKING:
    from pymongo.asynchronous.collection import AsyncCollection

T = TypeVar("T")

MAX_CONCURRENT = 16
"""Searches at the same time."""
POLL_S = 2.0
"""Seconds between two looks at an index that is being built."""
OWN_SHARE = 0.8
"""Share of the deadline of a search for pymongo's own deadline, whose error names the cause."""
SHOWN_CHARS = 300
USER_ERRORS = {
    13: "the user may not do this",
    18: "the user or the password is wrong",
    8000: "Atlas refuses the user",
    40324: "this server has no vector search",
    31082: "this server has no vector search",
}
"""Codes of MongoDB's errors that a repetition does not repair."""


class MongodbStore:
    """A collection with a vector index.

    Args:
        config: The settings.

    Raises:
        InstallError: pymongo is not installed.
        ValueError: A variable with a secret is not set.
    """

    def __init__(self, config: MongodbRetrievalConfig) -> None:
        require_packages("retrieval=mongodb", "pymongo")
        self._config = config
        self._uri = secret_of(config.uri_env)
        self._embedder = open_embedder(config.embedder)
        self._where = f"MongoDB collection {config.database}.{config.collection}"
        self._opened: AsyncCollection[dict[str, Any]] | None = None
        self._filter_fields: frozenset[str] = frozenset()
        self._turns = asyncio.Semaphore(MAX_CONCURRENT)

    async def fingerprint(self) -> str:
        """Return 16 hexadecimal digits of index, settings and number of documents. Edited texts do not change them.

        Waits until the index can be searched.

        Raises:
            ValueError: There is no such index, it does not fit the settings, or other models embedded the documents.
            StoreFault: The server cannot be asked, or the index cannot be searched before the deadline.
        """
        index = await self._find_index()
        if index is None:
            await self._create_index()
            index = {}
        if not index.get("queryable"):
            index = await self._queryable_index()
        definition = index["latestDefinition"]
        self._check_definition(definition)
        collection = self._collection()
        await self._check_documents(collection)
        num_documents = await self._call(collection.estimated_document_count())
        config, embedder = self._config, self._embedder
        parts = [config.database, config.collection, config.index, definition, config.path, config.text_field]
        parts += [config.exact, config.num_candidates, embedder.model, embedder.dimensions, num_documents]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]

    async def search(self, queries: Sequence[Query], top_k: int) -> list[list[Passage]]:
        """Return the passages of each query, best first. Scores are those of `$vectorSearch`, from 0 to 1.

        Raises:
            ValueError: A filter is not declared, or the server refuses the user.
            StoreFault: The search failed, or the index can no longer be searched.
        """
        for query in queries:
            if undeclared := set(query.filters) - self._filter_fields:
                raise ValueError(self._undeclared(undeclared))
            if not query.text.strip():
                raise ValueError("a query without words cannot be embedded")
        vectors = await self._embedder.embed_queries([query.text for query in queries])
        found = await asyncio.gather(
            *(self._search(query, vector.tolist(), top_k) for query, vector in zip(queries, vectors, strict=True))
        )
        if not all(found):
            index = await self._find_index()
            if index is None or not index.get("queryable"):
                raise StoreFault(f"{self._where}: the index '{self._config.index}' cannot be searched any more")
        return list(found)

    async def close(self) -> None:
        """Close the connections."""
        await self._embedder.close()
        if self._opened is not None:
            await self._opened.database.client.close()
            self._opened = None

    async def _search(self, query: Query, vector: list[float], top_k: int) -> list[Passage]:
        pipeline = pipeline_of(self._config, query.filters, vector, top_k)
        async with self._turns:
            documents = await self._call(self._aggregated(pipeline))
        try:
            passages = [passage_of(document, text_field=self._config.text_field) for document in documents]
        except (LookupError, TypeError) as error:
            raise ValueError(
                f"{self._where}: a document has no text in '{self._config.text_field}' ({error}); set "
                "retrieval.text_field"
            ) from None
        return sorted(passages, key=lambda passage: (-passage.score, passage.id))

    async def _aggregated(self, pipeline: list[dict[str, Any]]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await (await self._collection().aggregate(pipeline)).to_list()
        return found

    async def _find_index(self) -> Mapping[str, Any] | None:
        """Return the description of the index, or None."""

        async def look() -> list[Mapping[str, Any]]:
            indexes = await self._collection().list_search_indexes(self._config.index)
            listed: list[Mapping[str, Any]] = await indexes.to_list()
            return listed

        found = await self._call(look())
        return found[0] if found else None

    async def _create_index(self) -> None:
        from pymongo.operations import SearchIndexModel

        config = self._config
        vector = {"type": "vector", "path": config.path, "numDimensions": self._embedder.dimensions}
        filters = sorted({*config.filters, *config.filter_fields})
        fields = [vector | {"similarity": "cosine"}, *({"type": "filter", "path": field} for field in filters)]
        if not config.create_index:
            raise ValueError(
                f"{self._where} has no vector index '{config.index}'; set retrieval.index to the name of one, or "
                f"retrieval.create_index=true to create it with {json.dumps({'fields': fields})}"
            )
        model = SearchIndexModel(definition={"fields": fields}, name=config.index, type="vectorSearch")
        await self._call(self._collection().create_search_index(model))

    async def _queryable_index(self) -> Mapping[str, Any]:
        status = ""

        async def until_queryable() -> Mapping[str, Any]:
            nonlocal status
            while not (index := await self._find_index() or {}).get("queryable"):
                status = str(index.get("status", "PENDING"))
                if status == "FAILED":
                    raise ValueError(f"{self._where}: the index '{self._config.index}' could not be built")
                await asyncio.sleep(POLL_S)
            return index

        try:
            what = f"the index '{self._config.index}' of {self._where}"
            return await wait_for(until_queryable(), what=what, deadline_s=self._config.index_timeout_s)
        except WaitTimeout as error:
            raise StoreFault(f"{error}; its status is {status}") from None

    def _check_definition(self, definition: Mapping[str, Any]) -> None:
        config, fields = self._config, definition.get("fields", [])
        vectors = {field["path"]: field for field in fields if field.get("type") == "vector"}
        self._filter_fields = frozenset(field["path"] for field in fields if field.get("type") == "filter")
        problems = []
        if config.path not in vectors:
            indexed = ", ".join(vectors) or "none"
            problems.append(f"it has no vectors of '{config.path}'; set retrieval.path (it has: {indexed})")
        elif (length := vectors[config.path]["numDimensions"]) != self._embedder.dimensions:
            problems.append(
                f"its vectors have {length} numbers, and those of the embedder {self._embedder.model} have "
                f"{self._embedder.dimensions}; use the model that embedded the documents"
            )
        if undeclared := {*config.filters, *config.filter_fields} - self._filter_fields:
            problems.append(self._undeclared(undeclared))
        if problems:
            raise ValueError(f"{self._where}, index '{config.index}': {'; '.join(problems)}")

    def _undeclared(self, fields: set[str]) -> str:
        declared = ", ".join(sorted(self._filter_fields)) or "none"
        return (
            f"the index '{self._config.index}' does not declare the filter fields {', '.join(sorted(fields))} "
            f"(declared: {declared}); add them to the index with type 'filter'"
        )

    async def _check_documents(self, collection: AsyncCollection[dict[str, Any]]) -> None:
        """Require documents with vectors and text, and none of another embedding model."""
        config, model = self._config, self._embedder.model
        with_vector = await self._call(collection.find_one({config.path: {"$exists": True}}, {config.path: 0}))
        if with_vector is None:
            raise ValueError(f"{self._where}: no document has a vector in '{config.path}'")
        if not isinstance(with_vector.get(config.text_field), str):
            fields = ", ".join(with_vector)
            raise ValueError(
                f"{self._where}: the documents have no text in '{config.text_field}' but {fields}; set "
                "retrieval.text_field"
            )
        other = {config.model_field: {"$exists": True, "$ne": model}}
        if (document := await self._call(collection.find_one(other, {config.model_field: 1}))) is not None:
            raise ValueError(
                f"{self._where}: {document[config.model_field]} embedded document {document['_id']}, and "
                f"retrieval.embedder is {model}; use the same model"
            )

    def _collection(self) -> AsyncCollection[dict[str, Any]]:
        """Return the collection. Its client belongs to the running event loop, and connects at the first call."""
        import pymongo
        from pymongo.errors import PyMongoError

        if self._opened is None:
            config, limit_ms = self._config, int(1000 * OWN_SHARE * self._config.timeout_s)
            try:
                client: pymongo.AsyncMongoClient[dict[str, Any]] = pymongo.AsyncMongoClient(
                    self._uri, timeoutMS=limit_ms, serverSelectionTimeoutMS=limit_ms, appname="rft", tz_aware=True
                )
            except (PyMongoError, ValueError) as error:
                raise ValueError(f"the URI in {config.uri_env} cannot be used: {self._reason(error)}") from None
            self._opened = client[config.database][config.collection]
        return self._opened

    async def _call(self, call: Awaitable[T]) -> T:
        """Await a call of the server, and say what its errors mean."""
        from bson.errors import BSONError
        from pymongo import errors

        try:
            result = await call
        except errors.ConfigurationError as error:
            raise ValueError(f"the URI in {self._config.uri_env} cannot be used: {self._reason(error)}") from None
        except errors.OperationFailure as error:
            if meaning := USER_ERRORS.get(error.code or 0):
                raise ValueError(f"{self._where}: {meaning}: {self._reason(error)}") from None
            raise StoreFault(f"{self._where}: {self._reason(error)}") from None
        except (errors.PyMongoError, BSONError) as error:
            raise StoreFault(f"{self._where}: {type(error).__name__}: {self._reason(error)}") from None
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise asyncio.CancelledError  # pymongo loses a cancellation that comes together with a reply
        return result

    def _reason(self, error: Exception) -> str:
        """Return the message of a library without secrets and without the description of the whole cluster."""
        user, _, _ = self._uri.rpartition("@")
        password = user.rpartition(":")[2]
        secrets = [self._uri, *([password] if "@" in self._uri and password else [])]
        message = re.split(r" \(configured timeouts|, Timeout: |, full error: ", str(error))[0]
        return hide_in_message(hide(message, secrets))[:SHOWN_CHARS]
