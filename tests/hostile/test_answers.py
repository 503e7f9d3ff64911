"""Replies of judges, graders behind a URL, and model servers."""

from __future__ import annotations

import asyncio
import importlib
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anyio
import httpx
import openai
import pytest

pytest.importorskip("hypothesis")
pytest.importorskip("ray")  # of rft.sampling
from hypothesis import example, given
from hypothesis import strategies as st

from graders.endpoint import Endpoint
from graders.judge import Judge
from rft.config.samplers.server import ServerSamplerConfig
from rft.config.samplers.sglang_server import SglangServerSamplerConfig
from rft.grading.clients.model_client import ModelCallError, ModelClient
from rft.sampling.server_client import MALFORMED, SampleRequest, ServerClient
from rft.sampling.sglang_client import SglangClient
from rft.sampling.stops import Stops
from rft.sampling.vllm_client import VllmClient
from rft.types import Policy, Rollout, Score, Split, StopReason, Task

from .harness import DEEP, as_json, cases, damaged, harmless, mutated

URL = "http://localhost:1/v1"
CHAT = {
    "id": "1",
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": '{"quality": {"reasoning": "r", "score": 7}}', "refusal": None},
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}
EMBEDDINGS = {"data": [{"index": 0, "embedding": [0.5, 1.0]}, {"index": 1, "embedding": [1.0, 0.0]}]}
SCORES = [{"reward": 0.5, "scores": {"a": {"value": 0.5, "status": "ok"}}}, {"score": 1}, {"reward": None}]
CHOICE = {
    "token_ids": [5, 2],
    "prompt_token_ids": [3, 4],
    "text": "a",
    "finish_reason": "stop",
    "logprobs": {"token_logprobs": [-0.5, -0.1], "top_logprobs": [{"token_id:4": -0.5, "token_id:9": -1.0}]},
    "prompt_logprobs": [None, {"4": {"logprob": -0.5}}],
}
VLLM: list[Any] = [
    {"model": "m", "choices": [CHOICE], "usage": {"prompt_tokens_details": {"cached_tokens": 1}}},
    {"model": "m", "choices": [CHOICE | {"prompt_token_ids": [3]}], "usage": None},
    {"data": [{"id": "m", "max_model_len": 64}]},
]
INFO = {
    "prompt_tokens": 2,
    "cached_tokens": 0,
    "finish_reason": {"type": "stop"},
    "output_token_logprobs": [[-0.5, 5, None], [-0.1, 2, None]],
    "input_token_logprobs": [[None, 3, None], [-0.5, 4, None]],
    "output_token_ids_logprobs": [[[-0.5, 4, None]]],
    "output_top_logprobs": [[[-0.5, 5, None], [-1.0, 6, None]]],
}
SGLANG: list[Any] = [
    {"text": "a", "output_ids": [5, 2], "meta_info": INFO},
    {"text": "a", "output_ids": [5, 2], "meta_info": INFO | {"prompt_tokens": 1}},
    {"model_path": "m", "enable_lora": True, "max_lora_rank": 8, "lora_target_modules": ["q_proj"]},
]

TASK = Task(id="t", messages=({"role": "user", "content": "?"},), item={"answer": "4"}, split=Split.TRAIN)
ROLLOUT = Rollout(
    task_id="t",
    index=0,
    prompt_ids=(3, 4),
    completion_ids=(5, 2),
    logprobs=(-0.5, -0.1),
    text="4",
    stop=StopReason.STOP,
    policy=Policy(version=0, fingerprint="f"),
)
REQUEST = SampleRequest(
    model="m",
    prompt_ids=(3, 4),
    salt="s",
    seed=1,
    temperature=1.0,
    max_completion_tokens=4,
    stops=Stops(frozenset({2}), ()),
)


@dataclass(frozen=True)
class Reply:
    """A reply of a server."""

    status: int
    headers: dict[str, str]
    body: bytes


PLAIN = {"content-type": "application/json"}


def ok(value: Any) -> Reply:
    """A reply with this JSON value."""
    return Reply(200, PLAIN, as_json(value))


def completion(**changes: Any) -> Reply:
    """A reply of vLLM with these changes to its only choice."""
    return ok(VLLM[0] | {"choices": [CHOICE | changes]})


NESTED = Reply(200, PLAIN, DEEP[0])


def replies(valid: list[Any]) -> st.SearchStrategy[Reply]:
    """Replies of a server. Statuses that the clients retry are missing: they only take time."""
    odd = [
        {"content-type": "text/plain; charset=nope"},
        {"content-encoding": "gzip"},
        {"location": "http://127.0.0.1:1/other", "content-length": "3"},
    ]
    return st.builds(
        Reply,
        status=st.sampled_from([200] * 8 + [204, 302, 400, 401, 404]),
        headers=st.sampled_from([PLAIN] * 6 + odd),
        body=mutated(valid).map(as_json) | damaged([as_json(one) for one in valid]),
    )


LIBRARIES = {httpx, importlib.import_module(openai.DefaultAsyncHttpxClient.__base__.__module__.partition(".")[0])}
"""Libraries that send requests: httpx, and the one that `openai` uses, which may be another one."""


@contextmanager
def answered_by(reply: Reply) -> Iterator[None]:
    """Answer every request of this process with the reply, without a network."""

    def answering(library: Any) -> Any:
        async def answer(_: Any, request: Any) -> Any:
            stream = library.ByteStream(reply.body)
            return library.Response(reply.status, headers=reply.headers, stream=stream, request=request)

        return patch.object(library.AsyncHTTPTransport, "handle_async_request", answer)

    async def no_pause(_: float) -> None:
        """Between two attempts of `openai`."""

    with ExitStack() as patches:
        for one in (*map(answering, LIBRARIES), patch.object(anyio, "sleep", no_pause)):
            patches.enter_context(one)
        _first_call()
        yield


@cache
def _first_call() -> None:
    """Make the first call of the process: `openai` then asks the system for its version, in processes."""
    asyncio.run(JUDGE.grade("4", TASK))


def check(score: Score | None, low: float, high: float) -> None:
    assert score is not None
    if score.value is None:
        assert score.reason or score.status == "skipped"
    else:
        assert low <= score.value <= high


JUDGE = Judge(base_url=URL, model="m", rubric="Is it short?", attempts=1, backoff_s=0, outage_s=0)


@cases(8, in_fuzz=700)
@given(reply=replies([CHAT]))
def test_replies_of_judges(reply: Reply) -> None:
    with answered_by(reply), harmless():
        check(asyncio.run(JUDGE.grade("4", TASK)), 0.0, 1.0)


@cases(6, in_fuzz=700)
@given(reply=replies([EMBEDDINGS]))
def test_embeddings(reply: Reply) -> None:
    client = ModelClient(URL, "m", None, 5.0, 0, outage_s=0)
    with answered_by(reply), harmless():
        try:
            vectors = asyncio.run(client.embed(["a", "b"]))
        except ModelCallError as error:
            assert str(error)
        else:
            assert len(vectors) == 2 and all(math.isfinite(number) for vector in vectors for number in vector)


@cases(8, in_fuzz=700)
@given(reply=replies(SCORES), shape=st.sampled_from(["rft", "azure", "google"]))
def test_replies_of_endpoints(reply: Reply, shape: Any) -> None:
    grader = Endpoint(url=URL, shape=shape, attempts=1, backoff_s=0, outage_s=0)
    with answered_by(reply), harmless():
        check(asyncio.run(grader.grade("4", TASK, ROLLOUT)), -math.inf, math.inf)


Call = Callable[[ServerClient], Awaitable[Any]]
CALLS: dict[str, Call] = {
    "base_model": lambda client: client.base_model(max_lora_rank=8),
    "sample": lambda client: client.sample(REQUEST),
    "score": lambda client: client.score("m", [3, 4], "s"),
    "score_last": lambda client: client.score_last("m", [3, 4, 4], "s"),
    "top_gap": lambda client: client.top_gap("m", [3, 4], "s", 0.5),
    "load_adapter": lambda client: client.load_adapter("a", Path("a")),
    "unload_adapter": lambda client: client.unload_adapter("a"),
}


@cases(12, in_fuzz=700)
@example(reply=NESTED, call="score")
@example(reply=ok([]), call="base_model")
@example(reply=ok({"data": ["m"]}), call="base_model")
@example(reply=ok(VLLM[0] | {"choices": ["a"]}), call="score")
@example(reply=completion(prompt_logprobs=[None, {"4": {"logprob": "high"}}]), call="score")
@example(reply=completion(logprobs=None), call="score_last")
@example(reply=completion(logprobs={"top_logprobs": []}), call="top_gap")
@example(reply=completion(token_ids=["5", 2]), call="sample")
@example(reply=completion(logprobs={"token_logprobs": [-0.5, float("nan")]}), call="sample")
@example(reply=completion(text=None), call="sample")
@given(reply=replies(VLLM), call=st.sampled_from(sorted(CALLS)))
def test_replies_of_vllm_servers(reply: Reply, call: str) -> None:
    with answered_by(reply), harmless():
        asyncio.run(_called(VllmClient(ServerSamplerConfig(url=URL)), call))


@cases(12, in_fuzz=700)
@example(reply=NESTED, call="score")
@example(reply=ok(SGLANG[2] | {"max_lora_rank": "8"}), call="base_model")
@example(reply=ok(SGLANG[0] | {"text": None}), call="sample")
@given(reply=replies(SGLANG), call=st.sampled_from(sorted(CALLS)))
def test_replies_of_sglang_servers(reply: Reply, call: str) -> None:
    with answered_by(reply), harmless():
        asyncio.run(_called(SglangClient(SglangServerSamplerConfig(url="http://localhost:1")), call))


async def _called(client: ServerClient, call: str) -> None:
    """Make a call. `ServerEngine` turns the errors of reading a completion into a `SampleError`."""
    try:
        result = await CALLS[call](client)
    except MALFORMED:
        assert call == "sample"
        return
    if call == "sample":
        assert isinstance(result.text, str) and all(type(token) is int for token in result.token_ids)
        assert all(map(math.isfinite, result.logprobs))
    numbers = {"score": lambda: result, "score_last": lambda: result[:1], "top_gap": lambda: [result]}
    assert all(isinstance(number, float) for number in numbers.get(call, list)())
