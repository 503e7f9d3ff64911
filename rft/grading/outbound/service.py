"""Graders behind HTTP, for trainers and services in other languages or on other machines.

    GET  /health   {"status": "ok", "graders": ["correct"]}
    POST /grade    {"prompt": "2 + 2 = ?", "completion": "4", "item": {"answer": "4"}}
                   -> {"reward": 1.0, "scores": {"correct": {"value": 1.0, "status": "ok", ...}}}

A request has `prompt` (a text) or `messages` (a chat), and `completion` or `completions`. Several completions form one
group for graders of groups; their reply is `{"results": [...]}`. A list of requests gets a list of replies. A failed
grader gives `"value": null` and its status with HTTP status 200, because the service itself did not fail.

`rft.grading.outbound.guard` decides who may send requests. Grading stops when the client disconnects.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rft.errors import GradeError
from rft.grading.contract import LoadedGrader
from rft.grading.outbound.completed import Completed, grade_completed
from rft.grading.outbound.guard import Guard
from rft.grading.panel import Panel
from rft.types import Grade

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from fastapi.responses import Response

MAX_SHOWN_PROBLEMS = 20
_EVERY_FAULT = 1.0
"""The service reports faults and continues; the trainer decides how many are too many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLimits:
    """The largest request, and its deadlines.

    Example:
        ServiceLimits(max_completions=64, grading_s=60.0)
    """

    max_body_bytes: int = 16 * 2**20
    """Maximum size of a body; larger ones get status 413."""
    max_completions: int = 4096
    """Maximum number of completions in a body; more get status 413."""
    body_s: float = 30.0
    """Deadline for the arrival of a body; later ones get status 408."""
    grading_s: float = 300.0
    """Deadline for the grading of a body; later ones get status 504."""

    @property
    def request_s(self) -> float:
        """Deadline of a request, from its head to the start of its reply."""
        return self.body_s + self.grading_s


class _Refused(Exception):
    """A request gets this status and detail instead of rewards."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail


def create_app(
    graders: Sequence[LoadedGrader],
    *,
    limits: ServiceLimits | None = None,
    token: str | None = None,
    hosts: Collection[str] | None = (),
) -> FastAPI:
    """Make the service.

    Args:
        graders: The graders; the reward is the weighted sum of their scores.
        limits: The limits of a request; None takes the defaults.
        token: The token that requests must send; None requires none.
        hosts: Allowed names in `Host` besides the loopback ones; None allows any name.
    """
    from fastapi import FastAPI
    from fastapi.responses import Response

    limits = limits or ServiceLimits()
    panel: Panel
    numbers = itertools.count()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        nonlocal panel
        panel = Panel(graders, max_fault_share=_EVERY_FAULT)  # created here because the panel belongs to the event loop
        yield
        panel.close()

    async def health(_: Request) -> Response:
        return _json({"status": "ok", "graders": [grader.name for grader in graders]})

    async def grade(request: Request) -> Response:
        try:
            given = _parsed(await _body(request, limits))
            requests = given if isinstance(given, list) else [given]
            _check(given, requests, limits)
            work = asyncio.gather(*(_reply(panel, str(next(numbers)), one) for one in requests))
            replies = await _while_connected(request, work, limits.grading_s)
            return _json(replies if isinstance(given, list) else replies[0])
        except _Refused as refused:
            return _json({"detail": refused.detail}, refused.status)

    def _json(content: Any, status: int = 200) -> Response:
        # In ASCII, because a text of a request or a completion may hold half of a surrogate pair.
        body = json.dumps(content, allow_nan=False).encode("ascii")
        return Response(body, status_code=status, media_type="application/json")

    app = FastAPI(title="rft graders", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_route("/health", health, methods=["GET"])
    app.add_route("/grade", grade, methods=["POST"])
    app.add_middleware(Guard, token=token, hosts=hosts)
    return app


async def _body(request: Request, limits: ServiceLimits) -> bytes:
    from starlette.requests import ClientDisconnect

    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.max_body_bytes:
                    raise _Refused(413, f"a request has at most {limits.max_body_bytes} bytes")
    except TimeoutError:
        raise _Refused(408, f"the body did not arrive within {limits.body_s:g} s") from None
    except ClientDisconnect:
        raise _Refused(400, "the client has disconnected") from None
    return bytes(body)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise _Refused(400, f"the body is not JSON: {error}") from None


def _check(given: Any, requests: Sequence[Any], limits: ServiceLimits) -> None:
    num_completions = sum(_num_completions(request) for request in requests)
    if num_completions > limits.max_completions:
        raise _Refused(413, f"a request has at most {limits.max_completions} completions, this one {num_completions}")
    several = (f"{at}{problem}" for at, request in _placed(given, requests) for problem in request_problems(request))
    problems = list(itertools.islice(several, MAX_SHOWN_PROBLEMS))
    if problems:
        raise _Refused(422, [*problems, "and perhaps more"] if len(problems) == MAX_SHOWN_PROBLEMS else problems)


async def _while_connected(request: Request, work: asyncio.Future[list[Any]], deadline_s: float) -> list[Any]:
    """Wait for the replies; cancel the grading when the client disconnects or the deadline passes."""
    disconnected = asyncio.ensure_future(request.receive())  # the body is complete, so this is the next message
    try:
        both: set[asyncio.Future[Any]] = {work, disconnected}
        await asyncio.wait(both, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        if disconnected.done():
            raise _Refused(400, "the client has disconnected")
        raise _Refused(504, f"not graded in {deadline_s:g} s")
    except GradeError as error:
        raise _Refused(500, str(error)) from None
    finally:
        disconnected.cancel()
        work.cancel()
        await asyncio.gather(disconnected, work, return_exceptions=True)


def request_problems(request: Any) -> list[str]:
    """Return the problems of a request."""
    if not isinstance(request, dict):
        return ["a request is an object with prompt, completion and item"]
    known = {"prompt", "messages", "completion", "completions", "item"}
    unknown = itertools.islice((key for key in request if key not in known), MAX_SHOWN_PROBLEMS)
    problems = [f"unknown key {key[:100]!r}; the keys are {', '.join(sorted(known))}" for key in unknown]
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


def _num_completions(request: Any) -> int:
    """Return the number of completions that a request asks to grade; an invalid request counts as one."""
    completions = request.get("completions") if isinstance(request, dict) else None
    return len(completions) if isinstance(completions, list) else 1


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
