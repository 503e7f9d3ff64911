"""Records of grading one completion: the input (`Case`), the resources (`Services`), and the result (`Outcome`)."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rft.grading.foreign.openai_spec.faults import Fault
from rft.waiting import waiting

if TYPE_CHECKING:
    from rft.grading.clients.model_client import ModelClient
    from rft.grading.sandbox import Sandbox

Usage = Mapping[str, int]
"""Token counts: `prompt_tokens`, `completion_tokens`, `total_tokens`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A completion and its task, as graders see them."""

    sample: Mapping[str, Any]
    """`choices`, `output_text`, `output_json`, `output_tools`, `output_audio`."""
    item: Mapping[str, Any]
    """The task's columns."""
    trace_id: str
    """An id for an endpoint's log, equal in repeated calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of one grader."""

    value: float | None
    """The score; None if the grader failed."""
    fault: Fault | None = None
    """The error, if any."""
    model: str | None = None
    """The judge's model, if a judge was called."""
    usage: Mapping[str, Usage] = field(default_factory=dict)
    """Token counts by model."""
    parts: Mapping[str, Outcome] = field(default_factory=dict)
    """The outcomes of a multi grader's graders, by key."""

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All faults; the grader's fault comes before those of its graders."""
        faults = (self.fault,) if self.fault else ()
        return faults + tuple(fault for part in self.parts.values() for fault in part.faults)


class RateLimit:
    """Limits the rate of calls.

    Args:
        per_second: Maximum number of calls per second.
    """

    def __init__(self, per_second: float) -> None:
        self._interval_s = 1 / per_second
        self._next = 0.0

    async def turn(self) -> None:
        """Wait for the next free slot."""
        now = time.monotonic()
        self._next = max(now, self._next + self._interval_s)
        if self._next > now:
            with waiting("a turn at the endpoint's rate limit"):
                await asyncio.sleep(self._next - now)


class Services:
    """External services of graders: a judge, a sandbox, the rate of an endpoint. Each is created at its first use.

    Args:
        base_url: The address of models, as `http://localhost:8000/v1`; None uses `OPENAI_BASE_URL`, otherwise OpenAI.
        api_key_env: The environment variable with the key.
        timeout_s: Deadline of one call of a model in seconds.
        retries: Maximum number of repetitions of a failed call.
        backoff_s: Seconds before the second call of an endpoint; they double with each attempt.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        timeout_s: float = 60.0,
        retries: int = 3,
        backoff_s: float = 0.5,
    ) -> None:
        self.base_url = base_url
        self.api_key_env = api_key_env
        self.timeout_s = timeout_s
        self.retries = retries
        self.backoff_s = backoff_s
        self.model = functools.cache(self._model)
        self.rate_limit = functools.cache(lambda _url, per_second: RateLimit(per_second))

    def _model(self, name: str) -> ModelClient:
        import os

        from rft.grading.clients.model_client import ModelClient

        base_url = self.base_url or os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
        return ModelClient(
            base_url=base_url,
            model=name,
            api_key_env=self.api_key_env,
            timeout_s=self.timeout_s,
            retries=self.retries,
            backoff_s=self.backoff_s,
        )

    @functools.cached_property
    def sandbox(self) -> Sandbox:
        """The sandbox of python graders."""
        from rft.grading.sandbox import Sandbox

        return Sandbox(packages=True)
