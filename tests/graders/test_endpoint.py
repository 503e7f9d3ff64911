"""Endpoint: against a real server on loopback that fails by a script."""

import asyncio
import json
import logging
import socket
import threading
from collections import deque

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response

from graders.endpoint import Endpoint
from rft.grading import Rollout, Status, Task, load_grader
from rft.types import Policy, StopReason

KEY = "sk-very-secret"
TASK = Task(
    id="t",
    messages=({"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2 = ?"}),
    item={"answer": "4"},
    split="train",
)


class Service:
    """A server that replies by a script, one entry a request, and keeps what it was asked. SILENCE is no reply."""

    SILENCE = object()

    def __init__(self):
        self.script = deque()
        self.requests = []
        self.headers = []
        app = FastAPI()
        app.post("/grade")(self.grade)
        listening = socket.create_server(("127.0.0.1", 0))  # requests queue up here until the server is there
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/grade"
        self.server = uvicorn.Server(
            uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        )
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listening]}, daemon=True)
        self.thread.start()

    async def grade(self, request: Request):
        self.requests.append(await request.json())
        self.headers.append(dict(request.headers))
        status, content, headers = self.script.popleft()
        if content is self.SILENCE:
            await request.receive()  # until the client gives up
        text = content if isinstance(content, str) else json.dumps(content)
        return Response(text, status_code=status, headers=headers)

    def replies(self, *replies):
        self.script.extend((*reply, {})[:3] for reply in replies)
        self.requests.clear()

    def close(self):
        self.server.should_exit = True
        self.thread.join(10)


@pytest.fixture(scope="module")
def running():
    service = Service()
    yield service
    service.close()


@pytest.fixture
def service(running):
    running.script.clear()
    running.requests.clear()
    running.headers.clear()
    return running


def rollout(text):
    return Rollout(
        task_id="t",
        index=2,
        prompt_ids=(1,),
        completion_ids=(2,),
        logprobs=(0.0,),
        text=text,
        stop=StopReason.STOP,
        policy=Policy(version=0, fingerprint="f"),
    )


def ask(url, text="<think>2+2</think>4", **options):
    grader = Endpoint(url=url, **{"backoff_s": 0.0, "attempts": 3, **options})
    return asyncio.run(grader.grade(completion=text, task=TASK, rollout=rollout(text)))


def test_our_own_shape(service):
    service.replies((200, {"reward": 0.25, "scores": {}}))
    assert ask(service.url).value == 0.25
    assert service.requests == [
        {"messages": list(TASK.messages), "completion": "<think>2+2</think>4", "item": {"answer": "4"}}
    ]
    assert "authorization" not in service.headers[0]


def test_azures_shape(service):
    service.replies((200, {"score": 0.5}))
    assert ask(service.url, shape="azure").value == 0.5
    (request,) = service.requests
    assert request["sample"]["output_text"] == request["sample"]["choices"][0]["message"]["content"] == "4"
    assert (request["item"], request["trace_id"]) == ({"answer": "4"}, "t-2")


@pytest.mark.parametrize(("given", "value"), [(0.5, 0.5), (7, 1.0), (-7, -1.0)])
def test_googles_shape_is_clipped(service, given, value):
    service.replies((200, {"reward": given}))
    assert ask(service.url, shape="google").value == value
    assert service.requests == [
        {
            "example": {
                "contents": [{"role": "user", "parts": [{"text": "2 + 2 = ?"}]}],
                "references": {"answer": "4"},
                "systemInstruction": {"parts": [{"text": "Be brief."}]},
            },
            "response": {"role": "model", "parts": [{"text": "4"}]},
            "metadata": {},
        }
    ]


@pytest.mark.parametrize(
    "failures",
    [
        [(500, "down")],
        [(503, "down"), (502, "<html>")],
        [(429, "slow down", {"Retry-After": "0"})],
        [(408, ""), (429, "", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})],
        [(200, "I would give this a 7 out of 10.")],
        [(200, "")],
    ],
    ids=repr,
)
def test_what_may_pass_is_tried_again(service, failures):
    service.replies(*failures, (200, {"reward": 1.0}))
    assert ask(service.url).value == 1.0
    assert len(service.requests) == len(failures) + 1


@pytest.mark.parametrize(
    ("replies", "attempts", "says"),
    [
        ([(500, "boom")] * 3, 3, "status 500: 'boom' (3 of 3 attempts)"),
        ([(200, "seven of ten")] * 3, 3, "the reply is not JSON: 'seven of ten' (3 of 3 attempts)"),
        ([(401, "who are you?")], 1, "status 401: 'who are you?' (1 of 3 attempts)"),
        ([(404, "")], 1, "status 404"),
        ([(307, "", {"Location": "http://127.0.0.1:9/"})], 1, "status 307"),
        ([(200, "x" * (2**20 + 1))], 1, "the reply has more than 1048576 bytes"),
        ([(200, [1.0])], 1, "replied with a list, not an object"),
        ([(200, {"score": 1.0})], 1, "gave no reward: it has no 'reward'"),
        ([(200, {"reward": "1.0"})], 1, "replied reward='1.0', which is not a finite number"),
        ([(200, '{"reward": NaN}')], 1, "which is not a finite number"),
        ([(200, '{"reward": 1e999}')], 1, "which is not a finite number"),
        (
            [(200, {"reward": None, "scores": {"a": {"value": None, "status": "timeout"}, "b": {"value": 1.0}}})],
            1,
            "gave no reward: a: timeout",
        ),
    ],
)
def test_no_reply_that_can_be_used_is_no_reward(service, replies, attempts, says):
    service.replies(*replies)
    score = ask(service.url)
    assert (score.value, score.status) == (None, Status.GRADER_ERROR)
    assert says in score.reason
    assert len(score.reason) <= 500
    assert len(service.requests) == attempts


def test_what_the_other_side_skips_is_skipped(service):
    service.replies((200, {"reward": None, "scores": {"a": {"value": None, "status": "skipped"}}}))
    assert ask(service.url).status is Status.SKIPPED


def test_silence_ends_at_the_attempts_deadline(service):
    service.replies((200, Service.SILENCE), (200, {"reward": 1.0}))
    assert ask(service.url, attempt_timeout_s=2.0).value == 1.0
    service.replies((200, Service.SILENCE))
    score = ask(service.url, attempt_timeout_s=0.05, attempts=1)
    assert "no reply within 0.05 s" in score.reason


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    score = ask(f"http://127.0.0.1:{port}/grade", attempts=2)
    assert score.status is Status.GRADER_ERROR
    assert "ConnectError" in score.reason


def test_retry_after_is_honoured_and_bounded(service, monkeypatch):
    pauses, real_sleep = [], asyncio.sleep

    async def sleep(seconds):
        if threading.current_thread() is not threading.main_thread():  # a server's own affairs
            return await real_sleep(seconds)
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    headers = [{"Retry-After": "7"}, {"Retry-After": "86400"}, {}]
    service.replies(*((429, "", header) for header in headers), (200, {"reward": 1.0}))
    assert ask(service.url, attempts=4, backoff_s=0.5).value == 1.0
    assert pauses[:2] == [7.0, 30.0]
    assert 1.0 <= pauses[2] <= 2.0  # the third of 0.5, 1, 2, spread by half


@pytest.mark.parametrize(
    ("header", "sent"), [("Authorization", f"Bearer {KEY}"), ("api-key", KEY)], ids=["bearer", "own header"]
)
def test_the_key_is_sent_and_never_shown(service, monkeypatch, caplog, header, sent):
    monkeypatch.setenv("GRADER_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    service.replies((403, f"the key {KEY} is not known"))
    score = ask(service.url, key_env="GRADER_KEY", key_header=header)
    assert service.headers[0][header.lower()] == sent
    assert "the key <redacted> is not known" in score.reason
    assert KEY not in caplog.text
    assert KEY not in repr(Endpoint(url=service.url, key_env="GRADER_KEY"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"url": "grader.example.com"}, "is not an http:// or https:// address"),
        ({"url": "file:///tmp/x"}, "is not an http:// or https:// address"),
        ({"url": "http://me:word@host/"}, "url contains a user or password"),
        (
            {"url": "http://host/", "key_env": "NO_SUCH_KEY"},
            "key_env='NO_SUCH_KEY': the environment variable is missing",
        ),
        ({"url": "http://host/", "attempts": 0}, "attempts must be at least 1"),
    ],
)
def test_wrong_options(options, says):
    with pytest.raises(ValueError, match=says.replace("(", r"\(")):
        Endpoint(**options)


def test_it_is_built_in():
    assert load_grader("g", {"use": "endpoint", "url": "http://127.0.0.1/"}).takes == ("completion", "task", "rollout")
