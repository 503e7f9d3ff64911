"""The judge against vLLM's own server, with structured output by the embedded model."""

import asyncio

import pytest
from transformers import AutoTokenizer

from graders.judge import Judge
from rft.grading import Status, Task

from .vllm_server import KEY, MODEL, vllm_server

pytestmark = [pytest.mark.e2e, pytest.mark.full]

TASK = Task(id="t", messages=({"role": "user", "content": "1+1="},), item={}, split="train")


@pytest.fixture(scope="module")
def url():
    """The address of the server's API."""
    options = '{"backend": "xgrammar", "disable_any_whitespace": true}'
    with vllm_server(
        *("--served-model-name", "judge", "--max-num-seqs", "4", "--gpu-memory-utilization", "0.1"),
        *("--hf-overrides", '{"max_position_embeddings": 4096}', "--structured-outputs-config", options),
    ) as url:
        yield url


def ask(url, monkeypatch, key=KEY, **sampling):
    monkeypatch.setenv("TEST_KEY", key)
    judge = Judge(
        base_url=url,
        model="judge",
        api_key_env="TEST_KEY",
        rubric={"right": "Is it right?", "brief": "Is it short?"},
        attempts=2,
        backoff_s=0.0,
        sampling={"max_completion_tokens": 200, **sampling},
    )
    return asyncio.run(judge.grade("2", TASK))


def test_a_verdict(url, monkeypatch):
    # The tiny model would write no end of reasoning: with this it closes quotes and braces where the schema lets it.
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    bias = {str(tokenizer.convert_tokens_to_ids(text)): weight for text, weight in [('"', 100), ("}", 50)]}
    score = ask(url, monkeypatch, logit_bias=bias)
    assert score.status == Status.OK
    assert 0 <= score.value <= 1
    assert score.reason.index("right ") < score.reason.index("; brief ")
    assert ask(url, monkeypatch, logit_bias=bias).value == score.value


def test_a_reply_that_is_cut_is_no_score(url, monkeypatch):
    score = ask(url, monkeypatch, max_completion_tokens=20)
    assert score.status == Status.GRADER_ERROR
    assert 'gave no verdict: \'{"right":{"reasoning' in score.reason


def test_a_wrong_key_and_a_prompt_that_is_too_long(url, monkeypatch):
    score = ask(url, monkeypatch, key="sk-another")
    assert score.status == Status.GRADER_ERROR
    assert "status 401" in score.reason
    assert "sk-another" not in score.reason
    score = ask(url, monkeypatch, max_completion_tokens=5000)
    assert score.status == Status.GRADER_ERROR
    assert "status 400" in score.reason
