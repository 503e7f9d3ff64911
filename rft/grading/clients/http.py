"""JSON over HTTP to a service that may be down, slow, busy, or reply with prose. Calls are retried, then fail.

A call waits for a service that has answered before and is down now (`rft.grading.clients.outage`).
"""

from __future__ import annotations

import asyncio
import functools
import json
import random
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rft.grading.clients.outage import ServiceError, circuit_of
from rft.redaction import hide
from rft.waiting import waiting

if TYPE_CHECKING:
    import ssl

    import httpx

MAX_REPLY_BYTES = 2**20
LONGEST_PAUSE_S = 30.0
SHOWN_CHARS = 200
"""Number of characters that are quoted from an unusable reply."""

_MAY_PASS = (408, 409, 425, 429)
"""Statuses below 500 after which a retry may succeed."""
OUTAGE_STATUSES = (502, 503, 504)
"""Statuses by which a proxy reports that the service behind it does not answer."""
_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = weakref.WeakKeyDictionary()


class CallFailed(ServiceError):
    """No attempt got a usable reply. The message contains no header and no secret.

    Args:
        message: The reason.
        attempted_at: `time.monotonic()` at the start of the last attempt.
        is_outage: Whether the service did not answer it.
        timed_out: Whether it timed out.
        may_pass: Whether the same call may succeed later.
        retry_after_s: Seconds that the service asks to wait.
    """

    def __init__(
        self,
        message: str,
        *,
        attempted_at: float,
        is_outage: bool,
        timed_out: bool,
        may_pass: bool,
        retry_after_s: float,
    ) -> None:
        super().__init__(message, attempted_at=attempted_at, is_outage=is_outage, may_pass=may_pass)
        self.timed_out = timed_out
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """The number and the duration of attempts.

    Example:
        Patience(attempts=4, attempt_timeout_s=10.0, backoff_s=0.5, outage_s=600.0)
    """

    attempts: int
    """Total number of attempts, at least 1."""
    attempt_timeout_s: float
    """Deadline of one attempt in seconds."""
    backoff_s: float
    """Seconds before the second attempt; see `pause_s`."""
    outage_s: float
    """Seconds to wait for a service that is down."""


class _Failed(Exception):
    """One attempt failed."""

    def __init__(
        self,
        reason: str,
        *,
        may_pass: bool = True,
        wait_s: float = 0.0,
        timed_out: bool = False,
        is_outage: bool = False,
    ) -> None:
        super().__init__(reason)
        self.may_pass = may_pass
        self.wait_s = wait_s
        self.timed_out = timed_out
        self.is_outage = is_outage


async def post_json(
    url: str,
    body: Any,
    *,
    headers: Mapping[str, str],
    patience: Patience,
    secrets: Sequence[str] = (),
    before_attempt: Callable[[], Awaitable[None]] | None = None,
    max_reply_bytes: int = MAX_REPLY_BYTES,
) -> Any:
    """POST JSON and return the JSON reply. Redirects are not followed, because they would forward the key.

    Args:
        url: The address.
        body: The request as JSON values, or as encoded JSON.
        headers: The headers.
        patience: The number and the duration of attempts.
        secrets: Texts that messages hide, even if the service quotes them.
        before_attempt: Awaited before each attempt, for example to respect a rate limit.
        max_reply_bytes: A longer reply fails the call.

    Raises:
        CallFailed: No attempt succeeded, or the service rejected the request.
        ValueError: JSON cannot hold the body.
    """
    content = body if isinstance(body, bytes) else as_json(body)
    service = service_of(url)
    circuit = circuit_of(service)

    async def attempt(only_once: bool) -> Any:
        attempts = 1 if only_once else patience.attempts
        for number in range(1, attempts + 1):
            if before_attempt is not None:
                await before_attempt()
            attempted_at = monotonic()
            try:
                async with asyncio.timeout(patience.attempt_timeout_s):
                    return await _post_once(url, content, headers, max_reply_bytes)
            except _Failed as error:
                failed = error
            except TimeoutError:
                failed = _Failed(f"no reply within {patience.attempt_timeout_s:g} s", timed_out=True, is_outage=True)
            is_down = failed.is_outage and patience.outage_s > 0 and circuit.seems_down(attempted_at)
            if not failed.may_pass or number == attempts or is_down:
                break
            with waiting(f"the next attempt at {service}"):
                await asyncio.sleep(pause_s(number, patience.backoff_s, failed.wait_s))
        message = hide(f"{url}: {failed} ({number} of {attempts} attempts)", secrets)
        raise CallFailed(
            message,
            attempted_at=attempted_at,
            is_outage=failed.is_outage,
            timed_out=failed.timed_out,
            may_pass=failed.may_pass,
            retry_after_s=failed.wait_s,
        ) from None

    return await circuit.call(attempt, budget_s=patience.outage_s)


def service_of(url: str) -> str:
    """Return the scheme, host and port of an address: an outage concerns all of its paths, and none of its secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def as_json(body: Any) -> bytes:
    """Return the encoded request.

    Raises:
        ValueError: JSON cannot hold the body.
    """
    try:
        return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
    except TypeError as error:
        raise ValueError(f"the request cannot be written as JSON: {error}") from None


async def _post_once(url: str, content: bytes, headers: Mapping[str, str], max_reply_bytes: int) -> Any:
    import httpx

    reply = bytearray()
    try:
        sent = {"Content-Type": "application/json", **headers}
        async with _client().stream("POST", url, content=content, headers=sent) as response:
            async for chunk in response.aiter_bytes():
                reply += chunk
                if len(reply) > max_reply_bytes:
                    raise _Failed(f"the reply has more than {max_reply_bytes} bytes", may_pass=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise _Failed(reason, is_outage=isinstance(error, httpx.TransportError)) from None
    shown = bytes(reply[: 4 * SHOWN_CHARS]).decode(errors="replace")[:SHOWN_CHARS]
    status = response.status_code
    if not response.is_success:
        wait_s = retry_after_s(response.headers)
        reason, is_outage = f"status {status}: {shown!r}", status in OUTAGE_STATUSES
        raise _Failed(reason, may_pass=may_pass(status), wait_s=wait_s, is_outage=is_outage)
    try:
        return json.loads(reply)
    except (ValueError, RecursionError):
        raise _Failed(f"the reply is not JSON: {shown!r}") from None


def may_pass(status: int) -> bool:
    """Whether a call with this status may succeed later."""
    return status in _MAY_PASS or status >= 500


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Return the seconds in `Retry-After`; 0 if it has none."""
    text = headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


def pause_s(attempt: int, backoff_s: float, asked_s: float) -> float:
    """Return the seconds to wait after an attempt, counted from 1.

    The pause doubles with each attempt, is at least the requested pause, varies by half to spread retries, and
    is at most `LONGEST_PAUSE_S`.
    """
    longest: float = backoff_s * 2.0 ** (attempt - 1)
    return min(LONGEST_PAUSE_S, max(longest * random.uniform(0.5, 1.0), asked_s))


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Return the settings of TLS for all clients of a process: reading the certificates takes tens of milliseconds."""
    import httpx

    return httpx.create_ssl_context()


def _client() -> httpx.AsyncClient:
    """Return the client of the event loop, which keeps its connections open between calls."""
    import httpx

    loop = asyncio.get_running_loop()
    if loop not in _clients:
        _clients[loop] = httpx.AsyncClient(
            timeout=None, limits=httpx.Limits(max_connections=None), verify=tls_context()
        )
    return _clients[loop]
