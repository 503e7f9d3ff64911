"""The HTTP side of the endpoint.

    POST /e/{episode}/v1/chat/completions   a turn of the policy, in OpenAI's format
    GET  /e/{episode}/v1/models             its name
    POST /e/{episode}/reward                {"reward": 0.7}, the score of the episode; {"turn_reward": 0.1} rewards the
                                            last turn

Every request sends the episode's own key as a bearer token.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from rft.episodes.endpoint.answers import completion, events
from rft.episodes.endpoint.asked import Refused, read_request
from rft.episodes.endpoint.session import Session
from rft.errors import RftError
from rft.grading.normalise import to_score

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from fastapi.responses import Response

MAX_BODY_BYTES = 64 * 2**20
RETRY_HEADER = "x-stainless-retry-count"
"""Header of OpenAI's clients: how often they have repeated the request."""
Handler = Callable[["Request", Session], Awaitable["Response"]]


def create_app(sessions: Mapping[str, Session]) -> FastAPI:
    """Return the ASGI app.

    Args:
        sessions: The episodes by the name in their address, including some that are over.
    """
    from fastapi import FastAPI

    app = FastAPI(title="rft policy", docs_url=None, redoc_url=None, openapi_url=None)
    for path, handler, method in (
        ("/e/{episode}/v1/chat/completions", _chat, "POST"),
        ("/e/{episode}/v1/models", _models, "GET"),
        ("/e/{episode}/reward", _reward, "POST"),
    ):
        app.add_route(path, _guarded(handler, sessions), methods=[method])
    return app


def _guarded(handler: Handler, sessions: Mapping[str, Session]) -> Callable[[Request], Awaitable[Response]]:
    """Return a handler that checks the key, and answers in OpenAI's format if there is an error."""

    async def handle(request: Request) -> Response:
        session = None
        try:
            session = _session_of(request, sessions)
            return await handler(request, session)
        except Refused as refused:
            if session is not None:
                session.counts["refused"] += 1
            return _error(refused.status, refused.code, refused.reason)
        except RftError as error:
            return _error(500, "policy_failed", str(error))

    return handle


def _session_of(request: Request, sessions: Mapping[str, Session]) -> Session:
    """Return the episode of the address.

    Raises:
        Refused: The key is missing, unknown, or another episode's.
    """
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    given = key.strip().encode()
    session = sessions.get(request.path_params["episode"])
    if session is not None and scheme.lower() == "bearer" and hmac.compare_digest(given, session.api_key.encode()):
        return session
    if any(hmac.compare_digest(given, other.api_key.encode()) for other in sessions.values()):
        raise Refused(403, "other_episode", "this key belongs to another episode")
    raise Refused(401, "invalid_api_key", "send the key of the episode (OPENAI_API_KEY) as a bearer token")


async def _chat(request: Request, session: Session) -> Response:
    from fastapi.responses import Response

    asked = read_request(await _body(request))
    retries = request.headers.get(RETRY_HEADER, "0")
    answer = await session.ask(asked, is_retry=retries not in ("", "0"))
    reply = completion(answer, asked, session.tokenizer)
    if not await request.is_disconnected():
        answer.is_delivered = True
    if asked.streams:
        return Response("".join(events(reply, asked)), media_type="text/event-stream")
    return _json(200, reply)


async def _models(request: Request, session: Session) -> Response:
    model = {"id": "policy", "object": "model", "created": 0, "owned_by": "rft"}
    return _json(200, {"object": "list", "data": [model]})


async def _reward(request: Request, session: Session) -> Response:
    if session.has_ended:
        raise Refused(410, "episode_over", "the episode is over")
    body = await _body(request)
    if not isinstance(body, dict) or body.keys() not in ({"reward"}, {"turn_reward"}):
        raise Refused(400, "invalid_request", 'the body must be {"reward": 0.7} or {"turn_reward": 0.1}')
    [(name, reward)] = body.items()
    score = to_score(reward)
    if score.value is None:
        raise Refused(400, "invalid_request", f"{name}: must be a finite number, not {reward!r}")
    if name == "reward":
        session.posted = score
    else:
        try:
            session.reward(score.value)
        except ValueError as error:
            raise Refused(400, "invalid_request", str(error)) from error
    return _json(200, {name: score.value})


async def _body(request: Request) -> Any:
    from starlette.requests import ClientDisconnect

    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise Refused(413, "too_large", f"a request has at most {MAX_BODY_BYTES} bytes")
        return json.loads(body)
    except ClientDisconnect:
        raise Refused(400, "invalid_request", "the client has disconnected") from None
    except ValueError as error:
        raise Refused(400, "invalid_request", f"the body is no JSON: {error}") from error


def _error(status: int, code: str, reason: str) -> Response:
    return _json(status, {"error": {"message": reason, "type": "invalid_request_error", "param": None, "code": code}})


def _json(status: int, content: Any) -> Response:
    from fastapi.responses import Response

    # In ASCII, because a completion may hold half of a surrogate pair.
    return Response(json.dumps(content).encode("ascii"), status_code=status, media_type="application/json")
