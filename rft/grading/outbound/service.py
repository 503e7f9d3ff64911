"""Graders behind HTTP, for trainers and services in other languages or on other machines.

    GET  /health   {"status": "ok", "graders": ["correct"]}
    POST /grade    {"prompt": "2 + 2 = ?", "completion": "4", "item": {"answer": "4"}}
                   -> {"reward": 1.0, "scores": {"correct": {"value": 1.0, "status": "ok", ...}}}

A request has `prompt` (a text) or `messages` (a chat), and `completion` or `completions`; for several completions of
one task, which graders of groups see together, the reply is `{"results": [...]}`. A list of requests gets a list of
replies. A grader that fails gives `"value": null` and its status, with HTTP status 200: the service did its work.

There is no authentication: bind it to the loopback interface, or put it behind what checks who asks.
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
"""A service answers with faults and goes on; to stop at too many is the business of whoever trains."""


def create_app(graders: Sequence[LoadedGrader], *, max_body_bytes: int = MAX_BODY_BYTES) -> FastAPI:
    """Make the service.

    Args:
        graders: What each completion is graded with; the reward is their weighted sum.
        max_body_bytes: Larger requests are refused with status 413.
    """
    from fastapi import FastAPI, HTTPException, Request

    panel: Panel
    numbers = itertools.count()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        nonlocal panel
        panel = Panel(graders, max_fault_share=_EVERY_FAULT)  # here, as it belongs to the event loop
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
        problems = [f"{at}{problem}" for at, one in _placed(given, requests) for problem in request_problems(one)]
        if problems:
            raise HTTPException(422, problems)
        replies = await asyncio.gather(*(_reply(panel, str(next(numbers)), one) for one in requests))
        return replies if isinstance(given, list) else replies[0]

    grade.__annotations__["request"] = Request  # FastAPI reads the type, and is imported only here
    app.get("/health")(health)
    app.post("/grade")(grade)
    return app


def request_problems(request: Any) -> list[str]:
    """Return everything that is wrong with a request, in words."""
    if not isinstance(request, dict):
        return ["that is no object with prompt, completion and item"]
    known = {"prompt", "messages", "completion", "completions", "item"}
    problems = [f"unknown key '{key}'; there are {', '.join(sorted(known))}" for key in request if key not in known]
    if ("prompt" in request) == ("messages" in request):
        problems.append("exactly one of prompt and messages must be there")
    if not isinstance(request.get("prompt", ""), str):
        problems.append("prompt is not a text")
    if "messages" in request and not _is_chat(request["messages"]):
        problems.append("messages is not a list of {role, content}, with at least one")
    if ("completion" in request) == ("completions" in request):
        problems.append("exactly one of completion and completions must be there")
    if not isinstance(request.get("completion", ""), str):
        problems.append("completion is not a text")
    texts = request.get("completions", [""])
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        problems.append("completions is not a list of texts, with at least one")
    if not isinstance(request.get("item", {}), dict):
        problems.append("item is not an object")
    return problems


async def _reply(panel: Panel, number: str, request: dict[str, Any]) -> dict[str, Any]:
    completed = Completed(
        id=number,
        prompt=request["prompt"] if "prompt" in request else request["messages"],
        completions=request["completions"] if "completions" in request else [request["completion"]],
        item=request.get("item", {}),
    )
    group = await grade_completed(panel, completed)
    results = [_result(one) for one in group.grades]
    return {"results": results} if "completions" in request else results[0]


def _result(grade: Grade) -> dict[str, Any]:
    return {"reward": grade.reward, "scores": {name: asdict(score) for name, score in grade.scores.items()}}


def _is_chat(messages: Any) -> bool:
    return (
        isinstance(messages, list)
        and bool(messages)
        and all(isinstance(one, dict) and isinstance(one.get("role"), str) and "content" in one for one in messages)
    )


def _placed(given: Any, requests: Sequence[Any]) -> list[tuple[str, Any]]:
    """Return each request with what its problems begin with: its place in a list."""
    return [(f"[{at}]: " if isinstance(given, list) else "", one) for at, one in enumerate(requests)]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
