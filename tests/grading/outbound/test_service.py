"""The service, over HTTP, with a real worker process behind it."""

import pytest
from fastapi.testclient import TestClient

from rft.grading import load_grader
from rft.grading.outbound.service import ServiceLimits, create_app

URL = "http://localhost:8000"

GRADERS = """
import asyncio
from rft.grading import per_group

def correct(completion, task):
    return completion == task.item["answer"]

def broken(completion):
    raise KeyError("gone")

@per_group
def longest(completions):
    return [len(one) == max(map(len, completions)) for one in completions]

async def asked(completion, task):
    return float(task.messages[-1]["content"] == "2 + 2 = ?")

async def slow(completion):
    await asyncio.sleep(1000)

async def huge(completion):
    return 1e308
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("graders") / "my_graders.py"
    path.write_text(GRADERS)
    return path


@pytest.fixture(scope="module")
def client(file):
    graders = [
        load_grader("correct", {"use": f"{file}:correct"}),
        load_grader("longest", {"use": f"{file}:longest", "weight": 0.5}),
        load_grader("asked", {"use": f"{file}:asked", "weight": 0}),
    ]
    with TestClient(
        create_app(graders, limits=ServiceLimits(max_body_bytes=2000, max_completions=5)), base_url=URL
    ) as client:
        yield client


def test_health(client):
    assert client.get("/health").json() == {"status": "ok", "graders": ["correct", "longest", "asked"]}


def test_one_completion(client):
    reply = client.post("/grade", json={"prompt": "2 + 2 = ?", "completion": "4", "item": {"answer": "4"}}).json()
    assert reply["reward"] == 1.5
    assert {name: score["value"] for name, score in reply["scores"].items()} == {
        "correct": 1.0,
        "longest": 1.0,
        "asked": 1.0,
    }
    assert reply["scores"]["correct"]["status"] == "ok"


def test_several_completions_are_a_group(client):
    chat = [{"role": "user", "content": "?"}]
    request = {"messages": chat, "completions": ["4", "four"], "item": {"answer": "4"}}
    reply = client.post("/grade", json=request).json()
    assert [result["reward"] for result in reply["results"]] == [1.0, 0.5]
    assert reply["results"][0]["scores"]["asked"]["value"] == 0.0


def test_a_list_gets_a_list(client):
    one = {"prompt": "?", "completion": "4", "item": {"answer": "4"}}
    replies = client.post("/grade", json=[one, one | {"completion": "5"}]).json()
    assert [reply["reward"] for reply in replies] == [1.5, 0.5]


def test_a_grader_that_fails_is_a_reply_without_a_reward(file):
    with TestClient(create_app([load_grader("broken", {"use": f"{file}:broken"})]), base_url=URL) as client:
        for _ in range(30):  # no budget runs out
            response = client.post("/grade", json={"prompt": "?", "completion": "4"})
    score = response.json()["scores"]["broken"]
    assert (response.status_code, response.json()["reward"], score["value"]) == (200, None, None)
    assert score["status"] == "grader error"
    assert "gone" in score["reason"]


def test_a_request_that_is_too_large(client):
    response = client.post("/grade", json={"prompt": "?", "completion": "x" * 2000})
    assert (response.status_code, response.json()["detail"]) == (413, "a request has at most 2000 bytes")


@pytest.mark.parametrize("body", [b"", b"{", b'{"prompt": NaN}', b"[" * 1900, b"\xff"])
def test_what_is_no_json(client, body):
    response = client.post("/grade", content=body)
    assert response.status_code == 400
    assert response.json()["detail"].startswith("the body is not JSON: ")


@pytest.mark.parametrize(
    ("request_body", "problems"),
    [
        (3, ["a request is an object with prompt, completion and item"]),
        (
            {},
            [
                "give exactly one of prompt and messages",
                "give exactly one of completion and completions",
            ],
        ),
        (
            {"prompt": "?", "messages": [], "completion": "4"},
            ["give exactly one of prompt", "messages must be a non-empty list"],
        ),
        ({"prompt": 1, "completion": None}, ["prompt must be a text", "completion must be a text"]),
        ({"prompt": "?", "completions": []}, ["completions must be a non-empty list of texts"]),
        ({"prompt": "?", "completions": [1]}, ["completions must be a non-empty list of texts"]),
        ({"messages": [{"role": "user"}], "completion": "4"}, ["messages must be a non-empty list"]),
        ({"prompt": "?", "completion": "4", "item": []}, ["item must be an object"]),
        ({"prompt": "?", "completion": "4", "items": {}}, ["unknown key 'items'"]),
        ([{"prompt": "?", "completion": "4"}, 3], ["[1]: a request is an object"]),
    ],
)
def test_all_that_is_wrong_at_once(client, request_body, problems):
    response = client.post("/grade", json=request_body)
    assert response.status_code == 422
    found = response.json()["detail"]
    assert len(found) == len(problems)
    for problem, expected in zip(found, problems, strict=True):
        assert problem.startswith(expected)


@pytest.mark.parametrize(
    "body",
    [
        [{"prompt": "?", "completion": "4"}] * 6,
        {"prompt": "?", "completions": ["4"] * 6},
        [{"prompt": "?", "completions": ["4"] * 3}] * 2,
    ],
)
def test_too_many_completions(client, body):
    response = client.post("/grade", json=body)
    assert (response.status_code, response.json()["detail"]) == (
        413,
        "a request has at most 5 completions, this one 6",
    )


def test_many_problems_are_cut(client):
    detail = client.post("/grade", json={f"k{number}": 0 for number in range(100)}).json()["detail"]
    assert (len(detail), detail[-1]) == (21, "and perhaps more")


def test_half_of_a_surrogate_pair(client):
    response = client.post("/grade", content=b'{"\\ud800": 1}')
    assert (response.status_code, response.json()["detail"][0][:20]) == (422, "unknown key '\\ud800'")
    body = b'{"prompt": "2 + 2 = ?", "completion": "\\ud800", "item": {"answer": "\\ud800"}}'
    response = client.post("/grade", content=body)
    assert (response.status_code, response.json()["reward"]) == (200, 1.5)


def test_grading_that_takes_too_long(file):
    grader = load_grader("slow", {"use": f"{file}:slow"})
    limits = ServiceLimits(grading_s=0.1)
    with TestClient(create_app([grader], limits=limits), base_url=URL) as client:
        response = client.post("/grade", json={"prompt": "?", "completion": "4"})
        assert (response.status_code, response.json()["detail"]) == (504, "not graded in 0.1 s")
        assert client.get("/health").status_code == 200


def test_a_sum_that_is_no_number(file):
    graders = [load_grader(name, {"use": f"{file}:huge", "weight": 1e308}) for name in ("a", "b")]
    with TestClient(create_app(graders), base_url=URL) as client:
        response = client.post("/grade", json={"prompt": "?", "completion": "4"})
    assert response.status_code == 500
    assert response.json()["detail"].startswith("the weighted sum of the scores is too large for a number")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "127.0.0.1:1234"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "GRADER.example:80"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:8000"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "localhost@evil.example"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:8000"}, 403),
    ],
    ids=repr,
)
def test_web_pages_are_refused(file, headers, status):
    app = create_app([load_grader("asked", {"use": f"{file}:asked"})], hosts=["grader.example"])
    with TestClient(app, base_url=URL) as client:
        assert client.get("/health", headers=headers).status_code == status
        response = client.post("/grade", json={"prompt": "?", "completion": "4"}, headers=headers)
        assert response.status_code == status


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer 0123456789abcdef", 200),
        ("Bearer 0123456789abcdeF", 401),
        ("Bearer 0123456789abcdef0", 401),
        ("bearer", 401),
        ("0123456789abcdef", 401),
        (None, 401),
    ],
)
def test_the_token(file, header, status):
    app = create_app([load_grader("asked", {"use": f"{file}:asked"})], token="0123456789abcdef", hosts=None)
    headers = {"Host": "any.example"} | ({} if header is None else {"Authorization": header})
    with TestClient(app, base_url=URL) as client:
        assert client.get("/health", headers={"Host": "any.example"}).status_code == 200
        response = client.post("/grade", json={"prompt": "?", "completion": "4"}, headers=headers)
        assert response.status_code == status
        assert "0123456789abcdef" not in response.text
