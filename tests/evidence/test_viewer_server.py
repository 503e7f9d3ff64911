"""`rft view --serve`: what it answers, and to whom."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest

from rft.api.view import open_viewer
from rft.errors import UsageError
from rft.evidence.viewer.server import ViewerServer
from tests.evidence.test_viewer import HOSTILE, line


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    rows = [line(step, index=index, reward=index / 4 if step else None) for step in range(3) for index in range(4)]
    long = {"completion": "Überlange Antwort", "num_completion_tokens": 9, "stop": "length", "reward": 0.75}
    (folder / "rollouts.jsonl").write_text("".join([*rows, line(3, **long), line(4, completion=HOSTILE)]))
    return folder


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[ViewerServer]:
    with open_viewer(str(run), port=0, tell=print) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


def get(server: ViewerServer, path: str, *, host: str | None = None, method: str = "GET") -> tuple[int, str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    headers = {} if host is None else {"Host": host}
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, answer.headers


def rollouts(server: ViewerServer, values: str, place: int = 0, limit: int = 50) -> dict[str, Any]:
    path = f"/{server.secret}/api/rollouts?run=0&place={place}&limit={limit}&{values}"
    status, text, _ = get(server, path)
    assert status == 200, text
    answer: dict[str, Any] = json.loads(text)
    return answer


def test_the_page_belongs_to_its_address(server: ViewerServer) -> None:
    status, page, headers = get(server, f"/{server.secret}/")
    assert status == 200 and "<title>rft view</title>" in page
    assert "connect-src 'self'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer" and headers["Cache-Control"] == "no-store"
    for path in ("/", "/api/overview", f"/{server.secret[:-1]}/", f"/{server.secret}x/", "//", "/%00/"):
        assert get(server, path)[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost:1", "evil.example:{port}", ""])
def test_another_host_is_refused(server: ViewerServer, host: str) -> None:
    assert get(server, f"/{server.secret}/", host=host.format(port=server.server_port))[0] == 403
    assert get(server, f"/{server.secret}/", host=f"localhost:{server.server_port}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_nothing_but_reading_is_answered(server: ViewerServer, method: str) -> None:
    assert get(server, f"/{server.secret}/", method=method)[0] == 501


@pytest.mark.parametrize(
    "path",
    ["../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "rollouts.jsonl", "api/rollouts/../../x", "api", "config.yaml"],
)
def test_no_path_leads_to_a_file(server: ViewerServer, path: str) -> None:
    assert get(server, f"/{server.secret}/{path}")[0] == 404


@pytest.mark.parametrize(
    ("values", "rows"),
    [
        ("", list(range(14))),
        ("order=newest", list(range(13, -1, -1))),
        ("order=highest&low=0.5", [13, 7, 11, 12, 6, 10]),
        ("order=longest", [12, *range(12), 13]),
        ("from_step=1&to_step=1", [4, 5, 6, 7]),
        ("low=0.25&high=0.5", [5, 6, 9, 10]),
        ("state=no+reward", [0, 1, 2, 3]),
        ("state=cut", [12]),
        ("phase=train&task=task+2", [8, 9, 10, 11]),
        ("phase=before", []),
        ("words=" + quote("ANTWORT über"), [12]),
        ("words=status", []),  # a key of the lines, and no word of a completion
        ("words=" + quote("</script>"), [13]),
    ],
)
def test_filters_and_orders(server: ViewerServer, values: str, rows: list[int]) -> None:
    answer = rollouts(server, values)
    assert [one["row"] for one in answer["rows"]] == rows and answer["is_complete"]


def test_pages_follow_each_other(server: ViewerServer) -> None:
    first = rollouts(server, "words=2+%2B", limit=5)
    assert [one["row"] for one in first["rows"]] == [0, 1, 2, 3, 4] and not first["is_complete"]
    second = rollouts(server, "words=2+%2B", place=first["next"], limit=50)
    assert [one["row"] for one in second["rows"]] == list(range(5, 14))


def test_one_completion_has_everything(server: ViewerServer) -> None:
    one = json.loads(get(server, f"/{server.secret}/api/rollout?run=0&row=13")[1])
    assert one["completion"] == HOSTILE and one["messages"] == [{"role": "user", "content": "2 + 2 = ?"}]
    assert one["scores"]["correct"]["answer"] == "4" and "recorded none" in one["has_no_tokens"]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("api/rollout?run=0&row=14", "there is no completion 14"),
        ("api/rollout?run=1&row=0", "run=1: there are 1 runs, from 0"),
        ("api/rollout?run=0&row=-1", "row=-1: give a whole number, 0 or more"),
        ("api/rollouts?run=0&place=0&limit=5&order=random", "order is one of oldest, newest"),
        ("api/rollouts?run=0&place=0&limit=5&low=much", "could not convert string to float: 'much'"),
    ],
)
def test_wrong_questions_are_told(server: ViewerServer, path: str, problem: str) -> None:
    status, text, _ = get(server, f"/{server.secret}/{path}")
    assert status == 400 and problem in text


def test_it_follows_a_run(server: ViewerServer, run: Path) -> None:
    before = json.loads(get(server, f"/{server.secret}/api/overview")[1])
    same = json.loads(get(server, f"/{server.secret}/api/overview?version={before['version']}")[1])
    assert same == {"version": before["version"]}
    (run / "metrics.jsonl").write_text('{"step": 1, "metrics": {"reward/mean": 0.5}, "drops": {}, "seconds": {}}\n')
    with (run / "rollouts.jsonl").open("a") as file:
        file.write(line(5) + '{"torn')
    after = json.loads(get(server, f"/{server.secret}/api/overview?version={before['version']}")[1])
    assert after["runs"][0]["num_rollouts"] == before["runs"][0]["num_rollouts"] + 1 == 15
    assert after["runs"][0]["curves"]["reward"] == [[1, 0.5, None, None]]


def test_a_taken_port_is_told(server: ViewerServer, run: Path) -> None:
    with pytest.raises(UsageError, match=rf"port {server.server_port}: Address already in use; choose another, or 0"):
        open_viewer(str(run), port=server.server_port, tell=print)
