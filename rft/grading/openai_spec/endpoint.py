"""endpoint: a grader behind a URL of the user's own, by Azure's contract.

    POST {"sample": ..., "item": ..., "trace_id": ...}   ->   {"score": 0.5}

With the grader's `headers`, at most `rate_limit` calls a second, at most 1 MB a call, at most ten minutes for it. A
call that cannot be made, or is answered with 408, 429 or 5xx, is repeated three times; then there is no reward.
"""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

from rft.grading.openai_spec.faults import Fault, Flag
from rft.grading.openai_spec.outcome import Case, Outcome, Services
from rft.grading.openai_spec.spec import Endpoint
from rft.types import Status
from rft.waiting import waiting

MAX_BYTES = 1_000_000
"""Largest request."""
TIMEOUT_S = 600.0
"""Seconds that one call may take."""
RETRIES = 3
"""How often a call is repeated."""


async def grade(spec: Endpoint, case: Case, services: Services) -> Outcome:
    """Ask the endpoint.

    Raises:
        Fault: The request is too large, the endpoint fails for good, or it replies with no score.
    """
    request = {"sample": case.sample, "item": dict(case.item), "trace_id": case.trace_id}
    body = json.dumps(request, separators=(",", ":")).encode()
    if len(body) > MAX_BYTES:
        raise Fault(Flag.OTHER_ERROR, f"the request has {len(body)} bytes; an endpoint is sent at most {MAX_BYTES}")
    fault = None
    for attempt in range(1 + RETRIES):
        if attempt:
            with waiting(f"the next try of endpoint '{spec.name}'"):
                await asyncio.sleep(services.backoff_s * 2 ** (attempt - 1))
        if spec.rate_limit is not None:
            await services.rate_limit(spec.url, spec.rate_limit).turn()
        reply, fault = await _post(spec, body)
        if fault is None:
            return Outcome(value=_score(reply))
    assert fault is not None
    raise fault


async def _post(spec: Endpoint, body: bytes) -> tuple[Any, Fault | None]:
    """Return the reply, or a fault that may pass by itself; raise one that will not."""
    import httpx

    where = f"endpoint '{spec.name}'"
    headers = {"Content-Type": "application/json"} | spec.headers
    try:
        async with asyncio.timeout(TIMEOUT_S), httpx.AsyncClient(timeout=None) as client:
            response = await client.post(spec.url, content=body, headers=headers)
    except TimeoutError:
        return None, Fault(Flag.UNRESPONSIVE_REWARD_ERROR, f"{where}: no reply in {TIMEOUT_S:g} s", Status.TIMEOUT)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return None, Fault(Flag.OTHER_ERROR, f"{where}: {type(error).__name__}")
    if response.status_code != 200:
        fault = Fault(Flag.OTHER_ERROR, f"{where}: status {response.status_code}")
        if response.status_code in (408, 429) or response.status_code >= 500:
            return None, fault
        raise fault
    try:
        return response.json(), None
    except (ValueError, RecursionError):
        raise Fault(Flag.OTHER_ERROR, f"{where}: the reply is not JSON: {response.text[:80]!r}") from None


def _score(reply: Any) -> float:
    score = reply.get("score") if isinstance(reply, dict) else None
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not math.isfinite(score):
        raise Fault(Flag.OTHER_ERROR, f"the endpoint's reply {reply!r:.200} has no finite number as its 'score'")
    return float(score)
