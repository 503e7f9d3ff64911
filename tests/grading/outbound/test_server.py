"""The server of the service, with connections that stay half open and with signals."""

import asyncio
import json
import signal
import socket
import subprocess
import sys

import pytest

from rft.grading import load_grader
from rft.grading.outbound import server
from rft.grading.outbound.service import ServiceLimits, create_app

GRADERS = """
import asyncio, re, time

async def fine(completion):
    return 1.0

async def slow(completion):
    open("begun", "w").close()
    try:
        await asyncio.sleep(1000)
    finally:
        open("cancelled", "w").close()

def blocking(completion):
    open("begun", "w").close()
    time.sleep(1000)
blocking.in_process = True
"""
HALF_OPEN = {
    "nothing": b"",
    "half a head": b"POST /grade HTTP/1.1\r\nHost: local",
    "half a body": b"POST /grade HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
    "half a second head": b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea",
}
SAFETY_S = 60.0


def request(completions):
    body = json.dumps({"prompt": "?", "completions": completions}).encode()
    return b"POST /grade HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@pytest.fixture
def served(tmp_path, monkeypatch):
    """`served("fine", client, grading_s=...)` runs a client against the service of one grader in this event loop."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(GRADERS)

    async def serve(name, client, **limits):
        allowed = ServiceLimits(**limits)
        app = create_app([load_grader(name, {"use": f"mine.py:{name}", "timeout_s": SAFETY_S})], limits=allowed)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            running = server.make_server(app, request_s=allowed.request_s)
            serving = asyncio.create_task(running.serve([listening]))
            try:
                return await asyncio.wait_for(client(*listening.getsockname()), SAFETY_S)
            finally:
                running.should_exit = True
                await asyncio.wait_for(serving, SAFETY_S)

    return lambda *args, **limits: asyncio.run(serve(*args, **limits))


@pytest.mark.parametrize("sent", HALF_OPEN.values(), ids=HALF_OPEN)
def test_half_open_connections_are_closed(served, monkeypatch, sent):
    monkeypatch.setattr(server, "HEAD_S", 0.2)
    monkeypatch.setattr(server, "REPLY_S", 0.1)

    async def client(*address):
        connections = [await asyncio.open_connection(*address) for _ in range(20)]
        for _, writer in connections:
            writer.write(sent)
        replies = [await reader.read() for reader, _ in connections]  # until the server closes
        for _, writer in connections:
            writer.close()
        return replies

    replies = served("fine", client, body_s=0.2, grading_s=SAFETY_S)
    assert len(replies) == 20
    if sent == HALF_OPEN["half a body"]:
        assert all(reply.startswith(b"HTTP/1.1 408 ") for reply in replies)


def test_a_client_that_leaves_ends_its_grading(served, tmp_path):
    async def client(*address):
        _, writer = await asyncio.open_connection(*address)
        writer.write(request(["x"]))
        while not (tmp_path / "begun").exists():
            await asyncio.sleep(0.01)
        writer.close()
        while not (tmp_path / "cancelled").exists():
            await asyncio.sleep(0.01)
        return "cancelled"

    assert served("slow", client) == "cancelled"


def test_the_end_comes_despite_connections_and_running_requests(served, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "GRACE_S", 1.0)

    async def client(*address):
        connections = [await asyncio.open_connection(*address) for _ in range(5)]
        for (_, writer), sent in zip(connections, [*HALF_OPEN.values(), request(["x"])], strict=True):
            writer.write(sent)
        while not (tmp_path / "begun").exists():
            await asyncio.sleep(0.01)
        return "ends"

    assert served("slow", client) == "ends"  # and `served` waits for the end of the server
    assert (tmp_path / "cancelled").exists()


@pytest.mark.e2e  # real limits: too slow for a unit test
@pytest.mark.parametrize("name", ["slow", "blocking"])
def test_sigterm_ends_the_process(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(GRADERS)
    words = ["serve-grader", "port=0", f"graders.g.use=mine.py:{name}", "graders.g.timeout_s=1000"]
    code = "import rft.grading.outbound.server as s; s.GRACE_S, s.END_S = 1, 3; from rft.cli import main; main()"
    with subprocess.Popen([sys.executable, "-u", "-c", code, *words], stdout=subprocess.PIPE, text=True) as service:
        try:
            port = int(service.stdout.readline().partition("127.0.0.1:")[2].partition("/")[0])
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(request(["x"]))
                while not (tmp_path / "begun").exists():
                    assert service.poll() is None
                service.send_signal(signal.SIGTERM)
                assert service.wait(SAFETY_S) in (-signal.SIGTERM, 128 + signal.SIGTERM)
        finally:
            service.kill()
