"""Endpoint: a grader behind a URL.

graders:
  quality:
    use: endpoint
    url: https://grader.example.com/grade
    shape: azure
    key_env: GRADER_KEY      # the name of an environment variable, never the key itself
    timeout_s: 60            # for all attempts together

Requests and replies:

    rft      {messages, completion, item}        {reward} and {scores}, as `rft serve-grader` replies
    azure    {sample, item, trace_id}            {score}
    google   {example, response, metadata}       {reward}, clipped to [-1, 1]
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlsplit

from rft.grading import Rollout, Score, Status, Task
from rft.grading.clients.http import CallFailed, Patience, post_json
from rft.grading.clients.outage import OUTAGE_S
from rft.grading.foreign.styles import STYLES
from rft.grading.foreign.styles.payloads import Graded
from rft.grading.normalise import to_score

MAX_REASON_CHARS = 500


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Scores with the reply of a service. If all attempts fail, the completion has no score and no reward."""

    url: str
    """Address of the service."""
    shape: Literal["rft", "azure", "google"] = "rft"
    """The format of requests and replies."""
    key_env: str | None = None
    """Environment variable with the key; None sends no key."""
    key_header: str = "Authorization"
    """Header of the key; `Authorization` sends `Bearer <key>`."""
    attempts: int = 4
    """Total number of attempts; after 408, 409, 425, 429, 5xx, a broken connection, a timeout or invalid JSON."""
    attempt_timeout_s: float = 10.0
    """Deadline of one attempt in seconds."""
    backoff_s: float = 0.5
    """Seconds before the second attempt; doubled with each attempt, unless `Retry-After` asks for more (at most 30)."""
    outage_s: float = OUTAGE_S
    """Seconds to wait for a service that is down but has answered before. They do not count towards `timeout_s`."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        problems = []
        if parts.scheme not in ("http", "https") or not parts.hostname:
            problems.append(f"url={self.url!r} is not an http:// or https:// address")
        if parts.username or parts.password:
            problems.append("url contains a user or password; put the key into an environment variable and set key_env")
        if self.key_env is not None and not os.environ.get(self.key_env):
            problems.append(f"key_env={self.key_env!r}: the environment variable is missing or empty")
        if self.attempts < 1 or self.attempt_timeout_s <= 0 or min(self.backoff_s, self.outage_s) < 0:
            problems.append("attempts must be at least 1, attempt_timeout_s above 0, backoff_s and outage_s at least 0")
        if problems:
            raise ValueError("; ".join(problems))

    async def grade(self, completion: str, task: Task, rollout: Rollout) -> Score:
        """Call the service."""
        key = os.environ.get(self.key_env) if self.key_env else None
        prefix = "Bearer " if self.key_header.lower() == "authorization" else ""
        try:
            reply = await post_json(
                self.url,
                self._request(completion, task, rollout),
                headers={self.key_header: prefix + key} if key else {},
                patience=Patience(
                    attempts=self.attempts,
                    attempt_timeout_s=self.attempt_timeout_s,
                    backoff_s=self.backoff_s,
                    outage_s=self.outage_s,
                ),
                secrets=[key] if key else [],
            )
        except CallFailed as error:
            return _no_score(str(error))
        if not isinstance(reply, Mapping):
            return _no_score(f"{self.url} replied with a {type(reply).__name__}, not an object")
        return self._score(reply)

    def _request(self, completion: str, task: Task, rollout: Rollout) -> dict[str, Any]:
        if self.shape == "rft":
            return {"messages": list(task.messages), "completion": completion, "item": dict(task.item)}
        graded = Graded(task, [completion], [rollout])
        if self.shape == "google":
            return {**STYLES["google"].payload(graded), "metadata": {}}
        return {**STYLES["openai"].payload(graded), "trace_id": f"{task.id}-{rollout.index}"}

    def _score(self, reply: Mapping[str, Any]) -> Score:
        key = "score" if self.shape == "azure" else "reward"
        value = reply.get(key)
        if value is None:
            causes = _causes(reply)
            if causes and all(status == Status.SKIPPED for _, status in causes):
                return Score(value=None, status=Status.SKIPPED)
            named = ", ".join(f"{name}: {status}" for name, status in causes) or f"it has no '{key}'"
            return _no_score(f"{self.url} gave no reward: {named}")
        score = to_score(value)
        if score.value is None:
            return _no_score(f"{self.url} replied {key}={value!r:.80}, which is not a finite number")
        return replace(score, value=max(-1.0, min(1.0, score.value))) if self.shape == "google" else score


def _causes(reply: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the graders of an rft service without a score, and their statuses."""
    scores = reply.get("scores")
    if not isinstance(scores, Mapping):
        return []
    return [
        (str(name), str(score.get("status")))
        for name, score in scores.items()
        if isinstance(score, Mapping) and score.get("value") is None
    ]


def _no_score(reason: str) -> Score:
    return Score(value=None, status=Status.GRADER_ERROR, reason=reason[:MAX_REASON_CHARS])
