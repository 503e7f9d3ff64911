"""A server on loopback that speaks MongoDB's wire protocol, and checks `$vectorSearch` as Atlas does.

Real pymongo talks to it. It proves the bytes that rft sends and how rft takes faults; its ranking is its own, not
Atlas's. It answers SCRAM-SHA-256, `find`, `count`, `createSearchIndexes`, and `aggregate` with the stages of rft.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import struct
from typing import Any

import bson
import numpy as np

USER, PASSWORD = "ada", "only/in:tests"
OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
ITERATIONS = 4096


class Refused(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def in_search(message: str) -> Refused:
    return Refused(8, f"PlanExecutor error during aggregation :: caused by :: {message}")


class MongodbServer:
    """Documents and vector indexes of one collection, `house.posts`.

    Use it as a context manager in the event loop of the client.
    """

    def __init__(self, documents: list[dict[str, Any]], *, polls_until_ready: int = 0) -> None:
        self.documents = documents
        self.indexes: dict[str, dict[str, Any]] = {}
        self.polls_until_ready = polls_until_ready
        self.fault: str | Refused = ""
        """What happens to searches: `silence`, `close`, `half` a reply, `wrong` bytes, or an error."""
        self.searches: list[dict[str, Any]] = []
        self.commands: list[str] = []
        self._connections: set[asyncio.Task[None]] = set()

    def add_index(self, name: str, dimensions: int, *filters: str, path: str = "embedding") -> None:
        vector = {"type": "vector", "path": path, "numDimensions": dimensions, "similarity": "cosine"}
        self._create(name, [vector, *({"type": "filter", "path": field} for field in filters)])

    def _create(self, name: str, fields: list[dict[str, Any]]) -> None:
        self.indexes[name] = {"fields": fields, "polls_left": self.polls_until_ready}

    async def __aenter__(self) -> MongodbServer:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def uri(self, user: str = USER, password: str = PASSWORD) -> str:
        quoted = password.replace("/", "%2F").replace(":", "%3A")
        return f"mongodb://{user}:{quoted}@127.0.0.1:{self.port}/?authSource=admin&directConnection=true"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session: dict[str, Any] = {"user": None}
        while True:
            length, request, _, operation = struct.unpack("<iiii", await reader.readexactly(16))
            body = await reader.readexactly(length - 16)
            if operation == OP_QUERY:  # the first greeting of a connection
                name_end = body.index(b"\0", 4)
                command = bson.decode(body[name_end + 9 :])
            else:
                command = self._message(body)
            reply, fault = self._answer(command, session)
            content = bson.encode(reply)
            if operation == OP_QUERY:
                packed, operation = struct.pack("<iqii", 8, 0, 0, 1) + content, OP_REPLY
            else:
                packed = struct.pack("<IB", 0, 0) + content
            message = struct.pack("<iiii", 16 + len(packed), 1, request, operation) + packed
            if fault == "silence":
                await asyncio.Event().wait()
            if fault == "close":
                return
            if fault == "half":
                writer.write(message[: len(message) // 2])
                await writer.drain()
                return
            if fault == "wrong":
                message = message[:16] + b"\xff" * (len(message) - 16)
            writer.write(message)
            await writer.drain()

    def _message(self, body: bytes) -> dict[str, Any]:
        command: dict[str, Any] = {}
        place = 4
        while place < len(body):
            kind, place = body[place], place + 1
            (size,) = struct.unpack_from("<i", body, place)
            section = body[place : place + size]
            if kind == 0:
                command |= bson.decode(section)
            else:
                name_end = section.index(b"\0", 4)
                command[section[4:name_end].decode()] = bson.decode_all(section[name_end + 1 :])
            place += size
        return command

    def _answer(self, command: dict[str, Any], session: dict[str, Any]) -> tuple[dict[str, Any], str]:
        name = next(iter(command))
        self.commands.append(name)
        fault = ""
        try:
            if name.lower() in ("hello", "ismaster"):
                return self._hello(), ""
            if name in ("saslStart", "saslContinue"):
                return self._authenticate(command, session), ""
            if session["user"] is None and name not in ("ping", "endSessions"):
                raise Refused(13, f"Command {name} requires authentication")
            if name == "aggregate" and "$vectorSearch" in command["pipeline"][0]:
                if isinstance(self.fault, Refused):
                    raise self.fault
                fault = self.fault
            handler = getattr(self, f"_do_{name}", None)
            if handler is None:
                raise Refused(59, f"no such command: '{name}'")
            return handler(command) | {"ok": 1.0}, fault
        except Refused as error:
            return {"ok": 0.0, "errmsg": str(error), "code": error.code, "codeName": "Error"}, fault

    def _hello(self) -> dict[str, Any]:
        return {
            "isWritablePrimary": True,
            "helloOk": True,
            "minWireVersion": 0,
            "maxWireVersion": 25,
            "maxBsonObjectSize": 2**24,
            "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000,
            "saslSupportedMechs": ["SCRAM-SHA-256"],
            "ok": 1.0,
        }

    def _authenticate(self, command: dict[str, Any], session: dict[str, Any]) -> dict[str, Any]:
        """SCRAM-SHA-256, RFC 7677."""
        if "saslStart" in command:
            first = command["payload"].decode().removeprefix("n,,")
            fields = dict(part.split("=", 1) for part in first.split(","))
            salt = os.urandom(16)
            nonce = fields["r"] + base64.b64encode(os.urandom(18)).decode()
            server_first = f"r={nonce},s={base64.b64encode(salt).decode()},i={ITERATIONS}"
            session |= {"name": fields["n"], "salt": salt, "said": f"{first},{server_first}", "done": False}
            return {"conversationId": 1, "done": False, "payload": server_first.encode(), "ok": 1.0}
        if session["done"]:
            session["user"] = session["name"]
            return {"conversationId": 1, "done": True, "payload": b"", "ok": 1.0}
        final = command["payload"].decode()
        unproved, _, proof = final.rpartition(",p=")
        said = f"{session['said']},{unproved}".encode()
        salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), session["salt"], ITERATIONS)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(client_key).digest(), said, "sha256")
        expected = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        if session["name"] != USER or not hmac.compare_digest(expected, base64.b64decode(proof)):
            raise Refused(18, "Authentication failed.")
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        verifier = base64.b64encode(hmac.digest(server_key, said, "sha256")).decode()
        session["done"] = True
        return {"conversationId": 1, "done": False, "payload": f"v={verifier}".encode(), "ok": 1.0}

    def _do_ping(self, command: dict[str, Any]) -> dict[str, Any]:
        return {}

    def _do_endSessions(self, command: dict[str, Any]) -> dict[str, Any]:
        return {}

    def _do_count(self, command: dict[str, Any]) -> dict[str, Any]:
        return {"n": len(self.documents)}

    def _do_find(self, command: dict[str, Any]) -> dict[str, Any]:
        fits = [document for document in self.documents if self._fits(document, command.get("filter", {}))]
        hidden = [field for field, kept in command.get("projection", {}).items() if not kept]
        shown = [{name: value for name, value in document.items() if name not in hidden} for document in fits]
        return self._cursor(command, shown[: command.get("limit") or None])

    def _do_createSearchIndexes(self, command: dict[str, Any]) -> dict[str, Any]:
        for index in command["indexes"]:
            if index.get("type") != "vectorSearch":
                raise Refused(9, "this server builds vector indexes")
            self._create(index["name"], index["definition"]["fields"])
        return {"indexesCreated": [{"id": "1", "name": index["name"]} for index in command["indexes"]]}

    def _do_aggregate(self, command: dict[str, Any]) -> dict[str, Any]:
        first, *later = command["pipeline"]
        if "$listSearchIndexes" in first:
            return self._cursor(command, self._listed(first["$listSearchIndexes"].get("name")))
        if "$vectorSearch" not in first:
            raise Refused(40324, f"Unrecognized pipeline stage name: '{next(iter(first))}'")
        search = first["$vectorSearch"]
        self.searches.append(search)
        scored = self._search(search)
        documents = []
        for score, document in scored:
            for stage in later:
                if "$set" in stage:
                    ((field, _),) = stage["$set"].items()
                    document = document | {field: score}
                elif "$unset" in stage:
                    document = {name: value for name, value in document.items() if name != stage["$unset"]}
                else:
                    raise Refused(40324, f"Unrecognized pipeline stage name: '{next(iter(stage))}'")
            documents.append(document)
        return self._cursor(command, documents)

    def _listed(self, name: str | None) -> list[dict[str, Any]]:
        listed = []
        for known, index in self.indexes.items():
            if name in (None, known):
                is_ready = index["polls_left"] <= 0
                index["polls_left"] -= 1
                definition = {"fields": index["fields"]}
                status = {"status": "READY" if is_ready else "BUILDING", "queryable": is_ready}
                listed.append(
                    {"id": "1", "name": known, "type": "vectorSearch", "latestDefinition": definition} | status
                )
        return listed

    def _search(self, search: dict[str, Any]) -> list[tuple[float, dict[str, Any]]]:
        index = self.indexes.get(search["index"])
        if index is None:
            return []  # as in Atlas: no error
        if index["polls_left"] > 0:
            raise in_search(f"cannot query vector index {search['index']} while in state INITIAL_SYNC")
        exact, limit = search.get("exact", False), search.get("limit")
        if not isinstance(limit, int) or limit < 1:
            raise in_search('"limit" must be positive')
        if exact and "numCandidates" in search:
            raise in_search('"numCandidates" must be omitted for exact search')
        if not exact and not limit <= search.get("numCandidates", 0) <= 10_000:
            raise in_search('"numCandidates" is required, at least "limit", and at most 10000')
        vectors = {field["path"]: field for field in index["fields"] if field["type"] == "vector"}
        if search["path"] not in vectors:
            raise in_search(f"{search['path']} is not indexed as vector")
        length, query = vectors[search["path"]]["numDimensions"], np.array(search["queryVector"])
        if len(query) != length:
            raise in_search(f"vector field is indexed with {length} dimensions but queried with {len(query)}")
        if not query.any():
            raise in_search("zero vectors cannot be used with cosine similarity")
        condition = search.get("filter", {})
        declared = {field["path"] for field in index["fields"] if field["type"] == "filter"}
        if undeclared := self._fields_of(condition) - declared:
            raise in_search(f"Path '{sorted(undeclared)[0]}' needs to be indexed as filter")
        scored = []
        for document in self.documents:
            vector = np.array(document.get(search["path"], []))
            if len(vector) == length and self._fits(document, condition):
                cosine = vector @ query / np.linalg.norm(vector) / np.linalg.norm(query)
                scored.append((float((1 + cosine) / 2), document))
        return sorted(scored, key=lambda pair: -pair[0])[:limit]

    def _fields_of(self, condition: dict[str, Any]) -> set[str]:
        return {field for part in condition.get("$and", [condition]) for field in part}

    def _fits(self, document: dict[str, Any], condition: dict[str, Any]) -> bool:
        tests = {
            "$eq": lambda value, wanted: value == wanted,
            "$ne": lambda value, unwanted: value != unwanted,
            "$in": lambda value, allowed: value in allowed,
            "$exists": lambda value, wanted: (value is not None) == wanted,
        }
        return all(
            tests[operator](document.get(field), operand)
            for part in condition.get("$and", [condition])
            for field, operators in part.items()
            for operator, operand in operators.items()
        )

    def _cursor(self, command: dict[str, Any], documents: list[dict[str, Any]]) -> dict[str, Any]:
        return {"cursor": {"firstBatch": documents, "id": bson.Int64(0), "ns": f"{command['$db']}.posts"}}
