"""endpoint: a grader behind a user's URL, by Azure's contract.

    POST {"sample": ..., "item": ..., "trace_id": ...}   ->   {"score": 0.5}

A call has the grader's `headers` and at most 1 MB, and takes at most ten minutes; `rate_limit` bounds the calls per
second. A temporary failure (`rft.grading.clients.http`) is retried three times, then the completion gets no reward.
"""

from __future__ import annotations

import math
from typing import Any

from rft.grading.clients.http import CallFailed, Patience, as_json, post_json
from rft.grading.clients.outage import OUTAGE_S
from rft.grading.foreign.openai_spec.faults import Fault, Flag
from rft.grading.foreign.openai_spec.outcome import Case, Outcome, Services
from rft.grading.foreign.openai_spec.spec import Endpoint
from rft.redaction import secrets_in
from rft.types import Status

MAX_BYTES = 1_000_000
"""Maximum size of a request."""
TIMEOUT_S = 600.0
"""Deadline of one call in seconds."""
ATTEMPTS = 4
"""Maximum number of attempts."""


async def grade(spec: Endpoint, case: Case, services: Services) -> Outcome:
    """Return the endpoint's score.

    Raises:
        Fault: The request is too large, all attempts failed, or the reply has no score.
    """
    where = f"endpoint '{spec.name}'"
    body = as_json({"sample": case.sample, "item": dict(case.item), "trace_id": case.trace_id})
    if len(body) > MAX_BYTES:
        raise Fault(Flag.OTHER_ERROR, f"the request has {len(body)} bytes; the limit is {MAX_BYTES}")
    turn = None if spec.rate_limit is None else services.rate_limit(spec.url, spec.rate_limit).turn
    try:
        reply = await post_json(
            spec.url,
            body,
            headers=spec.headers,
            patience=Patience(
                attempts=ATTEMPTS, attempt_timeout_s=TIMEOUT_S, backoff_s=services.backoff_s, outage_s=OUTAGE_S
            ),
            secrets=secrets_in({"url": spec.url, "headers": spec.headers}),
            before_attempt=turn,
        )
    except CallFailed as error:
        if error.timed_out:
            raise Fault(Flag.UNRESPONSIVE_REWARD_ERROR, f"{where}: {error}", Status.TIMEOUT) from None
        raise Fault(Flag.OTHER_ERROR, f"{where}: {error}") from None
    return Outcome(value=_score(reply))


def _score(reply: Any) -> float:
    score = reply.get("score") if isinstance(reply, dict) else None
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not math.isfinite(score):
        raise Fault(Flag.OTHER_ERROR, f"the endpoint's reply {reply!r:.200} has no finite number as 'score'")
    return float(score)
