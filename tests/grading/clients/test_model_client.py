"""The model client against a real server on loopback that fails by a script."""

import asyncio
import socket
import traceback

import pytest

from rft.grading.clients import model_client
from rft.grading.clients.http import LONGEST_PAUSE_S, pause_s
from rft.grading.clients.model_client import ModelCallError, ModelClient

KEY = "sk-very-secret"
SCHEMA = {"type": "object", "properties": {"score": {"type": "number"}}}
MESSAGES = [{"role": "user", "content": "{hello}"}]
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def client(url, *, key_env=None, timeout_s=60.0, retries=2):
    return ModelClient(url, "judge", key_env, timeout_s, retries, backoff_s=0.0)


def chat(url, *, schema=SCHEMA, **options):
    return asyncio.run(client(url, **options).chat(MESSAGES, schema=schema, sampling={"top_k": 3, "temperature": 0}))


def failure(url, **options):
    with pytest.raises(ModelCallError) as caught:
        chat(url, **options)
    return caught.value


def test_a_chat(model_server, monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY + "\n")
    model_server.says({"score": 7})
    reply = chat(model_server.url, key_env="TEST_KEY")
    assert (reply.text, reply.parsed, reply.usage, reply.refusal) == ('{"score": 7}', {"score": 7}, USAGE, None)
    ((path, headers, body),) = model_server.requests
    assert (path, headers["authorization"]) == ("chat/completions", f"Bearer {KEY}")
    assert body == {
        "model": "judge",
        "messages": MESSAGES,
        "top_k": 3,
        "temperature": 0,
        "response_format": {"type": "json_schema", "json_schema": {"name": "reply", "schema": SCHEMA, "strict": True}},
    }


def test_no_key_is_sent_where_none_is_named(model_server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    model_server.says("hello")
    reply = chat(model_server.url, schema=None)
    assert (reply.text, reply.parsed) == ("hello", None)
    ((_, headers, body),) = model_server.requests
    assert headers["authorization"] == "Bearer none"
    assert KEY not in str(headers)
    assert "response_format" not in body


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ('{"a": "x</think>y"}', {"a": "x</think>y"}),
        ('<think>{}</think>\n{"a": 1}', {"a": 1}),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ("I would say 7.", None),
        ("", None),
        (None, None),
        ('{"a": NaN}', None),
        ('{"a": 1' + "0" * 400 + "}", None),
        ("[" * 100_000, None),
        ('{"a": 1', None),
    ],
)
def test_json_in_replies(model_server, text, parsed):
    model_server.says(text)
    reply = chat(model_server.url)
    assert (reply.text, reply.parsed) == (text or "", parsed)


def test_a_refusal(model_server):
    model_server.says(None, refusal="I will not.")
    reply = chat(model_server.url)
    assert (reply.parsed, reply.refusal) == (None, "I will not.")


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 503])
def test_what_may_pass_is_tried_again(model_server, status):
    model_server.replies(status, {"error": {"message": "later"}})
    model_server.replies(status, "<html>later</html>")
    model_server.says({"score": 7})
    assert chat(model_server.url).parsed == {"score": 7}
    assert len(model_server.requests) == 3


@pytest.mark.parametrize("status", [301, 400, 401, 404, 422])
def test_what_will_not_pass_is_not(model_server, status):
    model_server.replies(status, {"error": {"message": "never"}}, Location=f"{model_server.url}/elsewhere")
    message = str(failure(model_server.url))
    assert f"model 'judge' at {model_server.url}: status {status}" in message
    assert "never" in message
    assert "(1 of 3 attempts)" in message
    assert len(model_server.requests) == 1


@pytest.mark.parametrize("body", ["all is well", "[]", "{}", {"choices": []}, {"choices": [{"message": None}]}])
def test_a_reply_that_is_no_completion(model_server, body):
    for _ in range(3):
        model_server.replies(200, body)
    assert "does not follow OpenAI's API" in str(failure(model_server.url))
    assert len(model_server.requests) == 3


def test_silence(model_server):
    for _ in range(2):
        model_server.replies(200, model_server.SILENCE)
    assert "no reply within 0.2 s (2 of 2 attempts)" in str(failure(model_server.url, timeout_s=0.2, retries=1))


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert "no connection" in str(failure(f"http://127.0.0.1:{port}/v1"))


def test_the_key_is_never_shown(model_server, monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    model_server.replies(401, {"error": {"message": f"no such key: {KEY}"}})
    error = failure(model_server.url, key_env="TEST_KEY")
    assert "no such key: ***" in str(error)
    assert (error.__cause__, error.__context__) == (None, None)
    assert KEY not in "".join(traceback.format_exception(error)) + repr(client(model_server.url, key_env="TEST_KEY"))


@pytest.mark.parametrize(("key", "problem"), [("", "is not set"), ("a\nb", "cannot be a key"), ("\u20ac", "cannot be")])
def test_a_key_that_is_none(model_server, monkeypatch, key, problem):
    monkeypatch.setenv("TEST_KEY", key)
    assert problem in str(failure(model_server.url, key_env="TEST_KEY"))
    assert model_server.requests == []


def test_pauses():
    for attempt, longest in [(1, 0.5), (2, 1.0), (3, 2.0), (20, LONGEST_PAUSE_S)]:
        pauses = [pause_s(attempt, 0.5, 0.0) for _ in range(50)]
        assert longest / 2 <= min(pauses) < max(pauses) or min(pauses) == longest == LONGEST_PAUSE_S
        assert max(pauses) <= longest
    assert pause_s(1, 0.5, 7.0) == 7.0
    assert pause_s(1, 0.5, 3600.0) == LONGEST_PAUSE_S
    assert pause_s(3, 0.0, 0.0) == 0.0


def test_retry_after_is_heeded(model_server, monkeypatch):
    asked = []
    monkeypatch.setattr(model_client, "pause_s", lambda *arguments: asked.append(arguments) or 0.0)
    model_server.replies(429, {}, **{"Retry-After": "7"})
    model_server.replies(429, {}, **{"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"})
    model_server.says({"score": 7})
    chat(model_server.url)
    assert asked == [(1, 0.0, 7.0), (2, 0.0, 0.0)]


def test_one_client_in_several_event_loops(model_server):
    judge = client(model_server.url)
    for _ in range(3):
        model_server.says("hello")
        assert asyncio.run(judge.chat(MESSAGES, schema=None, sampling={})).text == "hello"


def test_embeddings_come_in_the_order_of_the_texts(model_server):
    model_server.embeds([1, 0.5], [0, 2])
    assert asyncio.run(client(model_server.url).embed(["a", "b"])) == [[1.0, 0.5], [0.0, 2.0]]
    ((path, _, body),) = model_server.requests
    assert (path, body) == ("embeddings", {"model": "judge", "input": ["a", "b"], "encoding_format": "float"})


@pytest.mark.parametrize("vectors", [([1, 2],), ([1, 2], [1]), ([1, 2], [1, float("nan")]), (), ("ab", "cd")])
def test_embeddings_that_are_none(model_server, vectors):
    model_server.embeds(*vectors)
    with pytest.raises(ModelCallError, match=r"does not follow OpenAI's API"):
        asyncio.run(client(model_server.url, retries=0).embed(["a", "b"]))


def test_problems():
    with pytest.raises(ValueError, match=r"'localhost:1' is not an http:// .*; timeout_s must be"):
        ModelClient("localhost:1", "judge", None, 0.0, 0)
    with pytest.raises(ValueError, match="contains a user or password") as caught:
        ModelClient(f"http://me:{KEY}@localhost/v1", "judge", None, 1.0, 0)
    assert KEY not in str(caught.value)
