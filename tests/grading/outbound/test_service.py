"""The service, over HTTP, with a real worker process behind it."""

import pytest
from fastapi.testclient import TestClient

from rft.grading import load_grader
from rft.grading.outbound.service import create_app

GRADERS = """
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
    with TestClient(create_app(graders, max_body_bytes=2000)) as client:
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
    with TestClient(create_app([load_grader("broken", {"use": f"{file}:broken"})])) as client:
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
