"""Graders behind HTTP, for trainers and services in other languages or on other machines.

    GET  /health   {"status": "ok", "graders": ["correct"]}
    POST /grade    {"prompt": "2 + 2 = ?", "completion": "4", "item": {"answer": "4"}}
                   -> {"reward": 1.0, "scores": {"correct": {"value": 1.0, "status": "ok", ...}}}

A request has `prompt` (a text) or `messages` (a chat), and `completion` or `completions`. Several completions form one
group for graders of groups; their reply is `{"results": [...]}`. A list of requests gets a list of replies. A failed
grader gives `"value": null` and its status with HTTP status 200, because the service itself did not fail.

The service has no authentication. Bind it to the loopback interface, or put it behind a proxy that authenticates.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rft.grading.contract import LoadedGrader
from rft.grading.outbound.completed import Completed, grade_completed
from rft.grading.panel import Panel
from rft.types import Grade

if TYPE_CHECKING:
    from fastapi import FastAPI

MAX_BODY_BYTES = 16 * 2**20
_EVERY_FAULT = 1.0
"""The service reports faults and continues; the trainer decides how many are too many."""


def create_app(graders: Sequence[LoadedGrader], *, max_body_bytes: int = MAX_BODY_BYTES) -> FastAPI:
    """Make the service.

    Args:
        graders: The graders; the reward is the weighted sum of their scores.
        max_body_bytes: Maximum size of a request; larger requests get status 413.
    """
    from fastapi import FastAPI, HTTPException, Request

    panel: Panel
    numbers = itertools.count()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        nonlocal panel
        panel = Panel(graders, max_fault_share=_EVERY_FAULT)  # created here because the panel belongs to the event loop
        yield
        panel.close()

    app = FastAPI(title="rft graders", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    async def health() -> dict[str, Any]:
        return {"status": "ok", "graders": [grader.name for grader in graders]}

    async def grade(request: Any) -> Any:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_body_bytes:
                raise HTTPException(413, f"a request has at most {max_body_bytes} bytes")
        try:
            given = json.loads(body, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise HTTPException(400, f"the body is not JSON: {error}") from None
        requests = given if isinstance(given, list) else [given]
        problems = [
            f"{at}{problem}" for at, request in _placed(given, requests) for problem in request_problems(request)
        ]
        if problems:
            raise HTTPException(422, problems)
        replies = await asyncio.gather(*(_reply(panel, str(next(numbers)), request) for request in requests))
        return replies if isinstance(given, list) else replies[0]

    grade.__annotations__["request"] = Request  # FastAPI reads the type, which is imported only here
    app.get("/health")(health)
    app.post("/grade")(grade)
    return app


def request_problems(request: Any) -> list[str]:
    """Return all problems of a request."""
    if not isinstance(request, dict):
        return ["a request is an object with prompt, completion and item"]
    known = {"prompt", "messages", "completion", "completions", "item"}
    problems = [f"unknown key '{key}'; the keys are {', '.join(sorted(known))}" for key in request if key not in known]
    if ("prompt" in request) == ("messages" in request):
        problems.append("give exactly one of prompt and messages")
    if not isinstance(request.get("prompt", ""), str):
        problems.append("prompt must be a text")
    if "messages" in request and not _is_chat(request["messages"]):
        problems.append("messages must be a non-empty list of {role, content}")
    if ("completion" in request) == ("completions" in request):
        problems.append("give exactly one of completion and completions")
    if not isinstance(request.get("completion", ""), str):
        problems.append("completion must be a text")
    texts = request.get("completions", [""])
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        problems.append("completions must be a non-empty list of texts")
    if not isinstance(request.get("item", {}), dict):
        problems.append("item must be an object")
    return problems


async def _reply(panel: Panel, number: str, request: dict[str, Any]) -> dict[str, Any]:
    completed = Completed(
        id=number,
        prompt=request["prompt"] if "prompt" in request else request["messages"],
        completions=request["completions"] if "completions" in request else [request["completion"]],
        item=request.get("item", {}),
    )
    group = await grade_completed(panel, completed)
    results = [_result(grade) for grade in group.grades]
    return {"results": results} if "completions" in request else results[0]


def _result(grade: Grade) -> dict[str, Any]:
    return {"reward": grade.reward, "scores": {name: asdict(score) for name, score in grade.scores.items()}}


def _is_chat(messages: Any) -> bool:
    return (
        isinstance(messages, list)
        and bool(messages)
        and all(
            isinstance(message, dict) and isinstance(message.get("role"), str) and "content" in message
            for message in messages
        )
    )


def _placed(given: Any, requests: Sequence[Any]) -> list[tuple[str, Any]]:
    """Return each request with the prefix of its problems: its place in a list."""
    return [(f"[{at}]: " if isinstance(given, list) else "", request) for at, request in enumerate(requests)]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
