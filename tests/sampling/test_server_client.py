"""The requests that all clients of servers share."""

from __future__ import annotations

import httpx
import openai
import pytest

from rft.config.samplers.server import ServerSamplerConfig
from rft.errors import ServerLost
from rft.sampling.server_client import Connection

ASKED = httpx.Request("POST", "http://127.0.0.1:8000/v1/completions")


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [
        (openai.APIConnectionError(request=ASKED), True),
        (openai.APITimeoutError(request=ASKED), True),
        (openai.InternalServerError("died", response=httpx.Response(500, request=ASKED), body=None), True),
        # A server that was restarted does not know the adapter.
        (openai.NotFoundError("no such model", response=httpx.Response(404, request=ASKED), body=None), True),
        (openai.BadRequestError("too long", response=httpx.Response(400, request=ASKED), body=None), False),
        (ValueError("no JSON"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_server_is_lost_if_it_cannot_be_reached_or_was_restarted(error: Exception, is_lost: bool) -> None:
    failure = Connection(ServerSamplerConfig()).failure("no completion of m", error)
    assert isinstance(failure, ServerLost) is is_lost
    assert str(failure).startswith("the server at http://127.0.0.1:8000/v1 failed: no completion of m: ")
