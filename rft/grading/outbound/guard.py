"""Refuses requests to the grader service before their body is read.

A web page in the user's browser can send requests to the loopback interface. Browsers name the page in `Origin`, and a
page that rebinds its own name to 127.0.0.1 is betrayed by `Host`. Other users of the machine, and other machines, need
the token.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

OPEN_PATHS = ("/health",)
"""Paths that need no token."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host: `localhost`, 127.0.0.0/8 or ::1."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Guard:
    """ASGI middleware that checks `Host`, `Origin` and the token of each request.

    Args:
        app: The service.
        token: The token, sent as `Authorization: Bearer <token>`; None requires none.
        hosts: Allowed names in `Host` besides the loopback ones; None allows any name.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, hosts: Collection[str] | None) -> None:
        self._app = app
        self._authorization = None if token is None else f"Bearer {token}".encode()
        self._hosts = None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an allowed request to the service; refuse any other."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await send_json(send, *refusal)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return status and reason of a refusal."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._is_allowed(host):
            return 403, f"Host: {host[:100]!r} is not a name of this service; allow it with allowed_hosts"
        if b"origin" in headers:
            return 403, "web pages may not use this service (the request has the header Origin)"
        if self._authorization is None or scope["path"] in OPEN_PATHS:
            return None
        if not hmac.compare_digest(headers.get(b"authorization", b""), self._authorization):
            return 401, "the header 'Authorization: Bearer <token>' with the token of this service is missing or wrong"
        return None

    def _is_allowed(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return self._hosts is None or is_loopback(name) or name in self._hosts


async def send_json(send: Send, status: int, detail: Any) -> None:
    """Reply with `{"detail": ...}` and close the connection, whose body stays unread."""
    body = json.dumps({"detail": detail}).encode("ascii")
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode("ascii")),
        (b"connection", b"close"),
        *([(b"www-authenticate", b"Bearer")] if status == 401 else []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
