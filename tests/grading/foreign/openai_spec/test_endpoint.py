"""Endpoint graders against a real server on loopback that fails by a script."""

import asyncio
import socket
import threading
from types import SimpleNamespace

import pytest

from rft.grading.foreign.openai_spec import Services, endpoint, run
from rft.grading.foreign.openai_spec.faults import Fault
from rft.grading.foreign.openai_spec.outcome import Case, RateLimit
from rft.grading.foreign.openai_spec.parsing import parse_grader


def ask(server, *, sample="4", services=None, **keys):
    grader = {"type": "endpoint", "name": "mine", "url": f"{server.url}/grade", **keys}
    request = {"grader": grader, "item": {"a": "4"}, "model_sample": sample}
    return run(request, services=services or Services(backoff_s=0.0))


def flags(response):
    return [name for name, is_set in response["metadata"]["errors"].items() if is_set is True]


def test_the_request(server):
    server.replies.append((200, {"score": 0.5}))
    assert ask(server, headers={"X-Key": "secret"}, rate_limit=50, pass_threshold=0.4)["reward"] == 0.5
    ((path, headers, body),) = server.requests
    assert (path, headers["x-key"], headers["content-type"]) == ("grade", "secret", "application/json")
    assert sorted(body) == ["item", "sample", "trace_id"]
    assert (body["item"], body["sample"]["output_text"]) == ({"a": "4"}, "4")
    assert isinstance(body["trace_id"], str)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_three_retries(server, status):
    server.replies += [(status, {})] * 3 + [(200, {"score": 1})]
    assert ask(server)["reward"] == 1.0
    assert len({request[2]["trace_id"] for request in server.requests}) == 1
    server.requests.clear()
    server.replies[:] = [(status, {})]
    response = ask(server)
    assert (response["reward"], flags(response), len(server.requests)) == (None, ["other_error"], 4)


@pytest.mark.parametrize(
    ("status", "body"),
    [(400, {}), (401, {}), (302, {}), (200, {}), (200, []), (200, {"score": "1"}), (200, {"score": True}),
     (200, {"score": None}), (200, 1.0)],
)  # fmt: skip
def test_what_will_not_pass_by_itself_is_asked_once(server, status, body):
    server.replies.append((status, body))
    response = ask(server)
    assert (response["reward"], flags(response), len(server.requests)) == (None, ["other_error"], 1)


def test_what_the_service_quotes_of_the_headers_is_not_repeated(server):
    secret = "sk-planted-0123456789"
    server.replies.append((401, {"detail": f"Bearer {secret} is no key, nor is {secret}"}))
    grader = parse_grader({"type": "endpoint", "url": f"{server.url}/grade", "headers": {"X-Key": f"Bearer {secret}"}})
    case = Case(sample={"output_text": "4"}, item={}, trace_id="t")
    with pytest.raises(Fault, match=r"status 401: .*<redacted> is no key") as caught:
        asyncio.run(endpoint.grade(grader, case, Services()))
    assert secret not in str(caught.value)


def test_silence(server, monkeypatch):
    monkeypatch.setattr(endpoint, "TIMEOUT_S", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as listening:  # and never accepting
        response = ask(server, url=f"http://127.0.0.1:{listening.getsockname()[1]}")
    assert (response["reward"], flags(response)) == (None, ["unresponsive_reward_error"])


def test_nobody_there(server):
    server.url, url = "http://127.0.0.1:9", server.url
    response = ask(server)
    server.url = url
    assert (response["reward"], flags(response)) == (None, ["other_error"])


def test_at_most_a_megabyte_is_sent(server):
    server.replies.append((200, {"score": 1.0}))
    response = ask(server, sample="x" * 1_000_000)
    assert (response["reward"], flags(response), server.requests) == (None, ["other_error"], [])


def test_the_rate_limit(monkeypatch):
    now, slept, real_sleep = 100.0, [], asyncio.sleep
    monkeypatch.setattr("rft.grading.foreign.openai_spec.outcome.time", SimpleNamespace(monotonic=lambda: now))

    async def sleep(seconds):
        if threading.current_thread() is not threading.main_thread():  # a server's own affairs
            return await real_sleep(seconds)
        slept.append(seconds)

    monkeypatch.setattr("rft.grading.foreign.openai_spec.outcome.asyncio.sleep", sleep)
    limit = RateLimit(4)

    async def turns(count):
        for _ in range(count):
            await limit.turn()

    asyncio.run(turns(3))
    now = 200.0
    asyncio.run(turns(2))
    assert slept == [0.25, 0.5, 0.25]
