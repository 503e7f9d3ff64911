"""Serves the viewer on this machine only, to whoever knows its address.

The address contains a secret. The server answers only GET requests whose host is the loopback address, so neither
another user nor a page of another site (DNS rebinding) reads runs. It opens no path that a request names: runs and
rollouts are numbers.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from rft.errors import UsageError
from rft.evidence.viewer.page import policy, viewer_page
from rft.evidence.viewer.rollout_query import Query
from rft.evidence.viewer.viewed_run import ViewedRun

LOOPBACK = "127.0.0.1"
SILENT_S = 30
"""Seconds after which a connection that sends nothing is closed."""


class ViewerServer(ThreadingHTTPServer):
    """The server.

    Args:
        runs: The runs to show.
        port: Port on 127.0.0.1; 0 takes a free one.

    Raises:
        UsageError: The port cannot be used.
    """

    daemon_threads = True

    def __init__(self, runs: Sequence[ViewedRun], *, port: int) -> None:
        self.runs = runs
        self.secret = secrets.token_urlsafe(24)
        try:
            super().__init__((LOOPBACK, port), _Answers)
        except (OSError, OverflowError) as error:
            problem = f"port {port}: {getattr(error, 'strerror', None) or error}; choose another, or 0 for a free one"
            raise UsageError("view", [problem]) from error
        self.hosts = {f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost")}

    @property
    def url(self) -> str:
        """The address of the page, with its secret."""
        return f"http://{LOOPBACK}:{self.server_port}/{self.secret}/"


class _Answers(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: ViewerServer
    protocol_version = "HTTP/1.1"
    server_version = "rft"
    sys_version = ""
    timeout = SILENT_S

    def do_GET(self) -> None:
        """Answer a request."""
        if self.headers.get("Host", "") not in self.server.hosts:
            return self._send(HTTPStatus.FORBIDDEN, "this host is not served")
        url = urlsplit(self.path)
        _, secret, *rest = [*url.path.split("/", 2), ""]
        if not hmac.compare_digest(secret.encode("utf-8", "replace"), self.server.secret.encode()):
            return self._send(HTTPStatus.NOT_FOUND, "open the address that rft view has printed")
        answer = _ANSWERS.get(rest[0])
        if answer is None:
            return self._send(HTTPStatus.NOT_FOUND, "there is no such page")
        try:
            content = answer(self.server.runs, dict(parse_qsl(url.query)))
        except (LookupError, ValueError) as error:
            return self._send(HTTPStatus.BAD_REQUEST, str(error))
        except OSError as error:  # the folder was removed, for example
            return self._send(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        kind = "text/html" if rest[0] == "" else "application/json"
        return self._send(HTTPStatus.OK, content, kind)

    def _send(self, status: HTTPStatus, content: str, kind: str = "text/plain") -> None:
        body = content.encode("utf-8", "backslashreplace")
        self.send_response(status)
        headers = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(body)),
            "Content-Security-Policy": f"{policy(is_served=True)}; frame-ancestors 'none'",
            "Cross-Origin-Resource-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        with suppress(ConnectionError):  # the browser has left the page
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the address is a secret."""


def _page(runs: Sequence[ViewedRun], _: Mapping[str, str]) -> str:
    shown = [run.overview() for run in runs]
    return viewer_page({"mode": "serve", "runs": shown, "version": _version(shown)})


def _overview(runs: Sequence[ViewedRun], values: Mapping[str, str]) -> str:
    shown = [run.overview() for run in runs]
    version = _version(shown)
    return json.dumps({"version": version} if values.get("version") == version else {"version": version, "runs": shown})


def _rollouts(runs: Sequence[ViewedRun], values: Mapping[str, str]) -> str:
    run, place, limit = _run(runs, values), _whole(values, "place"), _whole(values, "limit")
    return json.dumps(run.page(Query.of(values), place=place, limit=limit))


def _rollout(runs: Sequence[ViewedRun], values: Mapping[str, str]) -> str:
    return json.dumps(_run(runs, values).rollout(_whole(values, "row")))


_ANSWERS: dict[str, Callable[[Sequence[ViewedRun], Mapping[str, str]], str]] = {
    "": _page,
    "api/overview": _overview,
    "api/rollouts": _rollouts,
    "api/rollout": _rollout,
}


def _run(runs: Sequence[ViewedRun], values: Mapping[str, str]) -> ViewedRun:
    number = _whole(values, "run")
    if number >= len(runs):
        raise IndexError(f"run={number}: there are {len(runs)} runs, from 0")
    return runs[number]


def _whole(values: Mapping[str, str], name: str) -> int:
    text = values.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise ValueError(f"{name}={text}: give a whole number, 0 or more")
    return int(text)


def _version(shown: Sequence[Mapping[str, Any]]) -> str:
    """Return a text that differs for other content."""
    return str(hash(json.dumps(shown, sort_keys=True)))
