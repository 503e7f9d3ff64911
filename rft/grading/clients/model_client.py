"""Calls a model behind an OpenAI-compatible endpoint, as a judge or for embeddings. Calls are retried, then fail.

    client = ModelClient("http://localhost:8000/v1", "judge", None, timeout_s=30.0, retries=3)
    reply = await client.chat([{"role": "user", "content": "..."}], schema={...}, sampling={"temperature": 0})

Retries follow a broken connection, a timeout, the statuses 408, 409, 425, 429 and 5xx, and an invalid reply. A call
waits for an endpoint that has answered before and is down now (`rft.grading.clients.outage`). The key is read from an
environment variable at each call and appears in no message, repr or exception.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from rft.grading.answers import json_answer
from rft.grading.clients.http import OUTAGE_STATUSES, SHOWN_CHARS, may_pass, pause_s, retry_after_s, tls_context
from rft.grading.clients.outage import OUTAGE_S, ServiceError, circuit_of
from rft.waiting import waiting

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")


class ModelCallError(ServiceError):
    """No usable reply of a model: a fault of the grader, so the completion gets no reward."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply of a model.

    Example:
        Reply(text='{"result": 7}', parsed={"result": 7}, usage={"prompt_tokens": 10, "total_tokens": 15}, refusal=None)
    """

    text: str
    """The unchanged text."""
    parsed: Any
    """The text as a JSON value if a schema was requested; None for prose. Not checked against the schema."""
    usage: Mapping[str, int]
    """`prompt_tokens`, `completion_tokens` and `total_tokens`; empty if the endpoint does not count."""
    refusal: str | None
    """The model's reason for a refusal."""


class _Failed(Exception):
    """One attempt failed."""

    def __init__(
        self, reason: str, *, may_pass: bool = True, retry_after_s: float = 0.0, is_outage: bool = False
    ) -> None:
        super().__init__(reason)
        self.may_pass = may_pass
        self.retry_after_s = retry_after_s
        self.is_outage = is_outage


class ModelClient:
    """A model behind an endpoint. Several event loops may use it one after another.

    Args:
        base_url: The address of the API, as `http://localhost:8000/v1`.
        model: The model's name at the endpoint.
        api_key_env: The environment variable with the key; None if the endpoint needs no key.
        timeout_s: Deadline of one attempt in seconds.
        retries: Maximum number of repetitions of a failed call.
        backoff_s: Seconds before the first retry; see `rft.grading.clients.http.pause_s`.
        outage_s: Seconds to wait for an endpoint that is down.

    Raises:
        ValueError: An argument is out of its range, or the address contains a password.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key_env: str | None,
        timeout_s: float,
        retries: int,
        backoff_s: float = 0.5,
        outage_s: float = OUTAGE_S,
    ) -> None:
        parts = urlsplit(base_url)
        problems = []
        if parts.username or parts.password:
            problems.append("base_url contains a user or password; name an environment variable with the key instead")
        elif parts.scheme not in ("http", "https") or not parts.hostname:
            problems.append(f"base_url={base_url!r} is not an http:// or https:// address")
        if timeout_s <= 0 or retries < 0 or backoff_s < 0 or outage_s < 0:
            problems.append("timeout_s must be above 0; retries, backoff_s and outage_s must be at least 0")
        if problems:
            raise ValueError("; ".join(problems))
        self.base_url = base_url
        self.model = model
        self.api_key_env = api_key_env
        self.timeout_s = timeout_s
        self.retries = retries
        self.backoff_s = backoff_s
        self.outage_s = outage_s
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[str, AsyncOpenAI]]
        self._clients = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"ModelClient({self.base_url!r}, {self.model!r}, api_key_env={self.api_key_env!r})"

    async def chat(
        self, messages: Sequence[Mapping[str, Any]], *, schema: Mapping[str, Any] | None, sampling: Mapping[str, Any]
    ) -> Reply:
        """Return the model's reply to a chat.

        Args:
            messages: The messages in OpenAI's format.
            schema: The JSON schema of the reply, which an endpoint may ignore; None for prose.
            sampling: Further parameters of the request, such as `temperature`.

        Raises:
            ModelCallError: No attempt got a reply.
        """
        request: dict[str, Any] = {"model": self.model, "messages": list(messages)}
        request["extra_body"] = dict(sampling)  # endpoints have parameters that the library does not know
        if schema is not None:
            named = {"name": "reply", "schema": dict(schema), "strict": True}
            request["response_format"] = {"type": "json_schema", "json_schema": named}

        async def call(client: AsyncOpenAI) -> Reply:
            return _reply(await client.chat.completions.create(**request), is_json=schema is not None)

        return await self._persist(call)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return the embeddings of texts, in order; they are finite and of equal length.

        Raises:
            ModelCallError: No attempt got the embeddings.
        """

        async def call(client: AsyncOpenAI) -> list[list[float]]:
            # Some servers do not support base64, the client's default.
            reply = await client.embeddings.create(model=self.model, input=list(texts), encoding_format="float")
            return _vectors(reply, len(texts))

        return await self._persist(call)

    async def _persist(self, call: Callable[[AsyncOpenAI], Awaitable[T]]) -> T:
        """Make a call, and repeat it while it may succeed."""
        key = self._key()
        where = f"model '{self.model}' at {self.base_url}"
        client, circuit = self._client(key), circuit_of(where)

        async def attempt(only_once: bool) -> T:
            attempts = 1 if only_once else self.retries + 1
            for number in range(1, attempts + 1):
                attempted_at = monotonic()
                try:
                    with waiting(f"a reply of {where}", deadline_s=self.timeout_s):
                        return await _attempt(call, client, self.timeout_s)
                except _Failed as error:
                    failed = error
                is_down = failed.is_outage and self.outage_s > 0 and circuit.seems_down(attempted_at)
                if not failed.may_pass or number == attempts or is_down:
                    break
                with waiting(f"the next attempt at {where}"):
                    await asyncio.sleep(pause_s(number, self.backoff_s, failed.retry_after_s))
            reason = str(failed).replace(key, "***") if key else str(failed)
            message = f"{where}: {reason} ({number} of {attempts} attempts)"
            raise ModelCallError(
                message, attempted_at=attempted_at, is_outage=failed.is_outage, may_pass=failed.may_pass
            )

        return await circuit.call(attempt, budget_s=self.outage_s)

    def _key(self) -> str:
        if self.api_key_env is None:
            return ""
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise ModelCallError(f"the environment variable '{self.api_key_env}' for the key is not set")
        if not (key.isascii() and key.isprintable()):
            raise ModelCallError(f"the value of the environment variable '{self.api_key_env}' cannot be a key")
        return key

    def _client(self, key: str) -> AsyncOpenAI:
        """Return the client of the event loop, which keeps its connections open between calls."""
        import openai

        loop = asyncio.get_running_loop()
        known = self._clients.get(loop)
        if known is None or known[0] != key:
            client = openai.AsyncOpenAI(
                base_url=self.base_url,
                # The library requires a key. Without one it would send OPENAI_API_KEY to another endpoint.
                api_key=key or "none",
                max_retries=0,
                timeout=None,
                # Redirects are not followed: they would forward the graded texts.
                http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False, verify=tls_context()),
            )
            known = self._clients[loop] = (key, client)
        return known[1]


def strict_object(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of an object with exactly these properties, as strict replies require."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


async def _attempt(call: Callable[[AsyncOpenAI], Awaitable[T]], client: AsyncOpenAI, timeout_s: float) -> T:
    import openai

    # Raised outside the handler: the library's errors hold the request with the key in its headers.
    try:
        async with asyncio.timeout(timeout_s):
            return await call(client)
    except TimeoutError:
        failed = _Failed(f"no reply within {timeout_s:g} s", is_outage=True)
    except openai.APIStatusError as error:
        status, shown = error.status_code, error.response.text[:SHOWN_CHARS]
        wait_s = retry_after_s(error.response.headers)
        reason, is_outage = f"status {status}: {shown!r}", status in OUTAGE_STATUSES
        failed = _Failed(reason, may_pass=may_pass(status), retry_after_s=wait_s, is_outage=is_outage)
    except openai.APIConnectionError as error:
        failed = _Failed(f"no connection ({type(error.__cause__ or error).__name__})", is_outage=True)
    except (openai.OpenAIError, ValueError, AttributeError, TypeError, LookupError, RecursionError) as error:
        failed = _Failed(f"the reply does not follow OpenAI's API ({type(error).__name__}: {str(error)[:SHOWN_CHARS]})")
    raise failed


def _reply(completion: Any, *, is_json: bool) -> Reply:
    """Read a reply; the library does not validate it."""
    message = completion.choices[0].message
    text = "" if message.content is None else message.content
    if not isinstance(text, str):
        raise TypeError(f"the content is a {type(text).__name__}")
    counts = {name: getattr(completion.usage, name, None) for name in _COUNTS}
    return Reply(
        text=text,
        parsed=_json(text) if is_json else None,
        usage={name: count for name, count in counts.items() if isinstance(count, int)},
        refusal=str(message.refusal) if getattr(message, "refusal", None) else None,
    )


_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


def _json(text: str) -> Any:
    """Return a text as JSON, or the JSON after its thinking or in its fence; None for prose."""
    try:
        return json.loads(text, parse_constant=_refuse, parse_int=_int)
    except (ValueError, RecursionError):
        try:
            return json_answer(text)
        except (ValueError, RecursionError):
            return None


def _int(digits: str) -> int:
    return int(digits) if math.isfinite(float(digits)) else _refuse(digits[:20])


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a finite number")


def _vectors(reply: Any, count: int) -> list[list[float]]:
    entries = sorted(reply.data, key=lambda entry: entry.index)
    vectors = [[float(number) for number in entry.embedding] for entry in entries]
    if [entry.index for entry in entries] != list(range(count)):
        raise ValueError(f"{len(entries)} embeddings for {count} texts")
    if len({len(vector) for vector in vectors}) > 1 or not all(
        math.isfinite(number) for vector in vectors for number in vector
    ):
        raise ValueError("embeddings of different lengths, or not finite")
    return vectors
