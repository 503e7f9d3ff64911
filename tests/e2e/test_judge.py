"""The judge against vLLM's own server, with structured output by the embedded model."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from graders.judge import Judge
from rft.grading import Status, Task

pytestmark = [pytest.mark.e2e, pytest.mark.full]

MODEL = Path(__file__).parents[2] / "rft" / "embedded" / "model"
KEY = "sk-very-secret"
DEADLINE_S = 600.0
TASK = Task(id="t", messages=({"role": "user", "content": "1+1="},), item={}, split="train")


@pytest.fixture(scope="module")
def url():
    """Where the server is, once it serves."""
    # vLLM binds with SO_REUSEPORT, too: nobody else gets the port while this socket holds it, without listening.
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("127.0.0.1", 0))
    port = held.getsockname()[1]
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(MODEL)),
        *("--served-model-name", "judge", "--host", "127.0.0.1", "--port", str(port), "--api-key", KEY),
        *("--enforce-eager", "--max-num-seqs", "4", "--gpu-memory-utilization", "0.1"),
        *("--hf-overrides", '{"max_position_embeddings": 4096}'),
        *("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}'),
    ]
    own = {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    server = subprocess.Popen(
        command,
        env=os.environ | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    limit = threading.Timer(DEADLINE_S, os.killpg, (server.pid, signal.SIGKILL))
    limit.start()
    try:
        lines = []
        for line in server.stdout:
            lines.append(line)
            if "Application startup complete" in line:
                break
        else:
            pytest.fail("".join(lines[-20:]))
        threading.Thread(target=server.stdout.read, daemon=True).start()  # a full pipe would stop the server
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        held.close()
        limit.cancel()
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(30)


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
