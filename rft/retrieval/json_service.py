"""A service that answers JSON over HTTP, with a key from the environment."""

from __future__ import annotations

import os
from typing import Any

from rft.grading.clients.http import CallFailed, Patience, post_json
from rft.retrieval.stores.protocol import StoreFault
from rft.waiting import waiting

MAX_REPLY_BYTES = 2**26
"""64 vectors of 4,096 numbers in decimal notation, or 64 queries with long passages, take some megabytes."""


class JsonService:
    """The calls of one service. Retries follow lost connections, timeouts and the statuses 408, 409, 425, 429 and 5xx.

    Args:
        url: Its address, such as `https://api.voyageai.com/v1`, without secrets.
        api_key_env: Environment variable with the key, which is sent as a bearer token; None sends no key.
        timeout_s: Seconds allowed for one attempt.
        retries: Repetitions of a failed call.
        backoff_s: Seconds before the first repetition, doubled before each further one. `Retry-After` may ask for more.

    Raises:
        ValueError: The variable is not set.
    """

    def __init__(
        self, url: str, *, api_key_env: str | None, timeout_s: float, retries: int, backoff_s: float = 0.5
    ) -> None:
        self.url = url.rstrip("/")
        self._key = secret_of(api_key_env) if api_key_env else None
        self._patience = Patience(attempts=retries + 1, attempt_timeout_s=timeout_s, backoff_s=backoff_s, outage_s=0.0)

    def __repr__(self) -> str:
        return f"JsonService({self.url!r})"

    async def post(self, path: str, body: Any) -> Any:
        """Return the JSON reply to a POST.

        Args:
            path: Added to the address, such as `/rerank`; may be empty.
            body: The request as JSON values.

        Raises:
            StoreFault: No attempt got a reply.
            ValueError: The service refused the key or the request.
        """
        url = f"{self.url}{path}"
        try:
            with waiting(f"a reply of {url}", deadline_s=self._patience.attempt_timeout_s):
                return await post_json(
                    url,
                    body,
                    headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
                    patience=self._patience,
                    secrets=[self._key] if self._key else [],
                    max_reply_bytes=MAX_REPLY_BYTES,
                )
        except CallFailed as error:
            if not error.may_pass:
                raise ValueError(str(error)) from None
            raise StoreFault(str(error), retry_after_s=error.retry_after_s) from None


def secret_of(variable: str) -> str:
    """Return the secret in an environment variable.

    Raises:
        ValueError: The variable is not set, or its value cannot be sent.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        raise ValueError(f"the environment variable {variable} is not set; it should hold the key or the address")
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f"the value of the environment variable {variable} has characters that cannot be sent")
    return value
