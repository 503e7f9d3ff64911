"""A real server on loopback, which answers as a test tells it to and remembers what it was asked."""

import asyncio
import socket
import threading
import time
from dataclasses import dataclass, field

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from rft.grading.foreign.openai_spec import Services


@dataclass
class Script:
    """What the server says next, and what it has heard."""

    url: str = ""
    replies: list = field(default_factory=list)
    """(status, body), in turn; the last one for ever."""
    requests: list = field(default_factory=list)
    """(path, headers, body)."""

    def chat(self, content, *, refusal=None):
        message = {"role": "assistant", "content": content, "refusal": refusal}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        choices = [{"index": 0, "finish_reason": "stop", "message": message}]
        body = {"id": "c", "object": "chat.completion", "created": 0, "model": "judge", "choices": choices}
        self.replies.append((200, body | {"usage": usage}))


@pytest.fixture(scope="session")
def _running():
    app, script = FastAPI(), Script()

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    async def answer(path: str, request: Request):
        script.requests.append((path, dict(request.headers), await request.json() if await request.body() else None))
        status, body = script.replies.pop(0) if len(script.replies) > 1 else script.replies[0]
        return JSONResponse(body, status_code=status)

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
    thread.start()
    deadline = time.monotonic() + 120
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    script.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    yield script
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def server(_running):
    _running.replies.clear()
    _running.requests.clear()
    return _running


@pytest.fixture
def services(server, monkeypatch):
    monkeypatch.setenv("TEST_KEY", "key-of-the-test")
    return Services(base_url=f"{server.url}/v1", api_key_env="TEST_KEY", timeout_s=60.0, retries=0, backoff_s=0.0)
