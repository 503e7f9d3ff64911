"""Embedding: against a real server on loopback that fails by a script."""

import asyncio

import pytest

from graders.embedding import Embedding
from rft.grading import Status, Task, grader_problems, load_grader


def task(answer):
    return Task(id="t", messages=({"role": "user", "content": "?"},), item={"answer": answer}, split="train")


def ask(server, completion="<think>hm</think> Rome ", answer="Paris", **options):
    given = {"base_url": server.url, "model": "embedder", "attempts": 2, "backoff_s": 0.0}
    return asyncio.run(Embedding(**given | options).grade(completion, task(answer)))


@pytest.mark.parametrize(
    ("vectors", "zero_at", "value"),
    [
        (([3, 4], [4, 3]), 0.0, 0.96),
        (([3, 4], [4, 3]), 0.6, 0.9),
        (([3, 4], [4, 3]), 0.98, 0.0),
        (([1, 0], [2, 0]), 0.5, 1.0),
        (([1, 0], [0, 1]), 0.0, 0.0),
        (([1, 0], [-1, 0]), 0.0, 0.0),
    ],
)
def test_the_cosine(model_server, vectors, zero_at, value):
    model_server.embeds(*vectors)
    score = ask(model_server, zero_at=zero_at)
    assert (score.value, score.status, score.answer) == (pytest.approx(value), Status.OK, "Rome")
    assert model_server.requests[0][2]["input"] == ["Rome", "Paris"]


def test_what_is_not_asked(model_server):
    assert ask(model_server, "Paris").value == 1.0
    for completion in ("", " ", "<think>Paris"):
        score = ask(model_server, completion)
        assert (score.value, score.status) == (0.0, Status.NO_ANSWER)
    score = ask(model_server, "x" * 11, max_completion_chars=10)
    assert (score.value, score.status) == (0.0, Status.INVALID_OUTPUT)
    assert ask(model_server, answer=None) is None
    for completion in ("Rome", ""):
        with pytest.raises(ValueError, match="empty text"):
            ask(model_server, completion, answer=" ")
    assert model_server.requests == []


def test_failures_are_no_score(model_server):
    model_server.replies(500, {})
    model_server.replies(503, {})
    model_server.embeds([0, 0], [1, 0])
    for reason in ("status 503", "an embedding is zero"):
        score = ask(model_server)
        assert (score.value, score.status) == (None, Status.GRADER_ERROR)
        assert reason in score.reason


def test_a_failure_that_passes(model_server):
    model_server.replies(429, {})
    model_server.embeds([3, 4], [4, 3])
    assert ask(model_server).value == pytest.approx(0.96)


def test_problems():
    entry = {"use": "embedding", "base_url": "http://localhost:1/v1", "model": "m"}
    assert load_grader("g", entry).is_cached
    assert "zero_at=1.0" in grader_problems("g", entry | {"zero_at": 1})[0]
    assert "attempts and max_completion_chars" in grader_problems("g", entry | {"attempts": 0})[0]
    assert "is not an http://" in grader_problems("g", entry | {"base_url": "x"})[0]
