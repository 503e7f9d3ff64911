"""`rft serve-grader`, from the words of the command line."""

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from rich.console import Console

from rft.commands.serve_grader import run_service
from rft.config.commands import load_service
from rft.errors import ConfigError, UsageError


def test_a_request_is_answered_and_an_interrupt_ends_it() -> None:
    words = ["serve-grader", "port=0", "graders.correct.use=exact"]
    command = [sys.executable, "-u", "-c", "from rft.cli import main; main()", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            said = service.stdout.readline()
            found = re.fullmatch(r"correct at (http://127\.0\.0\.1:\d+/grade) \(Ctrl-C ends it\)\n", said)
            assert found, said
            request = {"prompt": "2 + 2 = ?", "completion": "4", "item": {"answer": "4"}}
            with urllib.request.urlopen(found[1], data=json.dumps(request).encode(), timeout=120) as reply:
                assert json.load(reply)["reward"] == 1
            service.send_signal(signal.SIGINT)
            assert service.wait(timeout=120) == 0
        finally:
            service.kill()


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = load_service([f"port={taken.getsockname()[1]}", "graders.correct.use=exact"])
        with pytest.raises(UsageError, match="Address already in use; choose another, or port=0"):
            run_service(config, console=Console(quiet=True))


def test_everything_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_service(["port=70000", "graders.correct.use=exat"])
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["port=70000", "graders.correct.use"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "grader.example"])
def test_other_machines_need_a_token(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [f"host='{host}'", "graders.correct.use=exact"]
    with pytest.raises(ConfigError) as caught:
        load_service(words)
    assert caught.value.problems[0].startswith(
        f"host={host}: other machines could use the service; name an environment"
    )
    monkeypatch.setenv("PLANTED", "0123456789abcdef")
    assert load_service([*words, "token_env=PLANTED"]).token_env == "PLANTED"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.53", "::1", "localhost"])
def test_this_machine_needs_none(host: str) -> None:
    assert load_service([f"host='{host}'", "graders.correct.use=exact"]).host == host


@pytest.mark.parametrize("token", ["", "short", None])
def test_a_token_that_is_too_short(token: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLANTED", raising=False)
    if token is not None:
        monkeypatch.setenv("PLANTED", token)
    with pytest.raises(ConfigError) as caught:
        load_service(["token_env=PLANTED", "graders.correct.use=exact"])
    [problem] = caught.value.problems
    assert problem.startswith("token_env=PLANTED: the environment variable must hold a token of at least 16 characters")
