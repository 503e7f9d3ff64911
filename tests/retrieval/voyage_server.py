"""A server on loopback with the wire format that VoyageAI documents, and a small HTTP store beside it.

It checks requests as the API does, embeds by counting words, and ranks by common words. It fails by a script.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

SILENCE = "silence"
DIMENSIONS = {"voyage-3.5": (256, 512, 1024, 2048), "voyage-law-2": (1024,)}
RERANKERS = ("rerank-2.5", "rerank-2.5-lite")


def words_of(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def vector_of(text: str, input_type: str | None, dimensions: int) -> np.ndarray:
    """Words at places of their hash; queries and documents get an own further component each."""
    vector = np.zeros(dimensions, np.float32)
    for word in words_of(text):
        vector[int(hashlib.sha256(word.encode()).hexdigest(), 16) % (dimensions - 2)] += 1
    vector[dimensions - 2 + (input_type == "query")] += 0.1
    return vector / np.linalg.norm(vector)


class Refused(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class VoyageServer:
    KEY = "pa-only-in-tests"

    def __init__(self) -> None:
        self.reset()
        app = FastAPI()
        app.add_route("/v1/{path:path}", self._reply, methods=["POST"])
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]}, daemon=True)
        self._thread.start()

    def reset(self) -> None:
        self.script: list[tuple[int, Any, dict[str, str]]] = []
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.shape = "base64"
        self.max_chars = 32_000  # the context of the models, in characters instead of tokens

    def replies(self, status: int, body: Any, **headers: str) -> None:
        """Reply so, once, whatever is asked."""
        self.script.append((status, body, headers))

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    async def _reply(self, request: Request) -> Response:
        path, body = request.path_params["path"], await request.json()
        self.requests.append((path, body))
        if self.script:
            status, scripted, headers = self.script.pop(0)
            if scripted is SILENCE:
                await request.receive()  # until the client gives up
            text = scripted if isinstance(scripted, str) else json.dumps(scripted)
            return Response(text, status_code=status, headers={"Content-Type": "application/json"} | headers)
        try:
            if request.headers.get("Authorization") != f"Bearer {self.KEY}":
                raise Refused(401, "Provided API key is invalid.")
            answer = {"embeddings": self._embeddings, "rerank": self._rerank}[path]
            return JSONResponse(answer(body))
        except Refused as error:
            return JSONResponse({"detail": str(error)}, status_code=error.status)

    def _embeddings(self, body: dict[str, Any]) -> dict[str, Any]:
        texts, model = body["input"], body["model"]
        self._check(body, {"input", "model", "input_type", "output_dimension", "encoding_format", "truncation"})
        if model not in DIMENSIONS:
            raise Refused(400, f"Model {model} is not supported.")
        dimensions = body.get("output_dimension", 1024)
        if dimensions not in DIMENSIONS[model]:
            raise Refused(400, f"The output_dimension {dimensions} is not supported by {model}.")
        if not texts or len(texts) > 1000 or body.get("input_type") not in (None, "query", "document"):
            raise Refused(400, "The request body is not valid.")
        if any(len(text) > self.max_chars for text in texts) and not body.get("truncation", True):
            raise Refused(400, "Request to model failed. An input exceeds the context length of the model.")
        data = []
        for index, text in enumerate(texts):
            vector = vector_of(text, body.get("input_type"), dimensions)
            packed = base64.b64encode(vector.astype("<f4").tobytes()).decode()
            embedding = packed if self.shape == body.get("encoding_format") else vector.tolist()
            data.append({"object": "embedding", "embedding": embedding, "index": index})
        return {"object": "list", "data": data, "model": model, "usage": {"total_tokens": len(texts)}}

    def _rerank(self, body: dict[str, Any]) -> dict[str, Any]:
        self._check(body, {"query", "documents", "model", "top_k", "truncation", "return_documents"})
        if body["model"] not in RERANKERS or not 0 < len(body["documents"]) <= 1000:
            raise Refused(400, "The request body is not valid.")
        query = words_of(body["query"])
        scores = [len(query & words_of(text)) / len(query | words_of(text)) for text in body["documents"]]
        ranked = sorted(range(len(scores)), key=lambda index: -scores[index])[: body["top_k"]]
        data = [{"index": index, "relevance_score": scores[index]} for index in ranked]
        return {"object": "list", "data": data, "model": body["model"], "usage": {"total_tokens": 1}}

    def _check(self, body: dict[str, Any], known: set[str]) -> None:
        if unknown := body.keys() - known:
            raise Refused(400, f"Argument {sorted(unknown)[0]} is not supported by our API.")
