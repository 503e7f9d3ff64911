"""A vLLM server of the test's own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[2] / "rft" / "embedded" / "model"
KEY = "sk-very-secret"
DEADLINE_S = 600.0
"""Of the server's life, however busy the machine is; it only ends what hangs."""
ON_A_CPU = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


@contextmanager
def vllm_server(*arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """The address of the API of a server with the embedded model, once it serves."""
    # vLLM may share an address, too: nobody else gets the port while this socket holds it, without listening.
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("127.0.0.1", 0))
    port = held.getsockname()[1]
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(MODEL)),
        *("--host", "127.0.0.1", "--port", str(port), "--api-key", KEY, "--enforce-eager"),
        *arguments,
    ]
    server = subprocess.Popen(
        command,
        env=os.environ | ON_A_CPU | dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert server.stdout is not None
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
