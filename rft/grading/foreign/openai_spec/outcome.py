"""One completion on its way through a grader: what is graded (`Case`), with what (`Services`), and what came of it."""

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
"""Tokens: `prompt_tokens`, `completion_tokens`, `total_tokens`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A completion and its row, as graders get them."""

    sample: Mapping[str, Any]
    """`choices`, `output_text`, `output_json`, `output_tools`, `output_audio`."""
    item: Mapping[str, Any]
    """The row's columns."""
    trace_id: str
    """What an endpoint can log, and recognise a repeated call by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one grader."""

    value: float | None
    """The score; None where the grader is at fault."""
    fault: Fault | None = None
    """What went wrong, if anything."""
    model: str | None = None
    """The judge that was asked."""
    usage: Mapping[str, Usage] = field(default_factory=dict)
    """Tokens by judge."""
    parts: Mapping[str, Outcome] = field(default_factory=dict)
    """What came of the graders of a multi grader, by key."""

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All faults, the grader's own first."""
        own = (self.fault,) if self.fault else ()
        return own + tuple(fault for part in self.parts.values() for fault in part.faults)


class RateLimit:
    """Lets calls through at a steady pace.

    Args:
        per_second: Calls in a second.
    """

    def __init__(self, per_second: float) -> None:
        self._interval_s = 1 / per_second
        self._next = 0.0

    async def turn(self) -> None:
        """Wait until it is this call's turn."""
        now = time.monotonic()
        self._next = max(now, self._next + self._interval_s)
        if self._next > now:
            with waiting("a turn at the endpoint's rate limit"):
                await asyncio.sleep(self._next - now)


class Services:
    """What graders need of the world: a judge, a sandbox, an endpoint's pace. Made when first needed, then kept.

    Args:
        base_url: Where models are, as `http://localhost:8000/v1`; None: what `OPENAI_BASE_URL` says, or else OpenAI.
        api_key_env: The environment variable that holds the key.
        timeout_s: Seconds that one call of a model may take.
        retries: How often a call of a model is repeated.
        backoff_s: Seconds before an endpoint is tried again; twice as many before each further try.
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
        """Where python graders run."""
        from rft.grading.sandbox import Sandbox

        return Sandbox(packages=True)
