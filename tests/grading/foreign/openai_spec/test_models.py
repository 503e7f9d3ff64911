"""score_model and label_model against a real server on loopback, through the real client."""

import json

import pytest

from rft.grading.foreign.openai_spec import run

JUDGE = {
    "type": "score_model",
    "name": "n",
    "model": "judge",
    "input": [
        {"role": "system", "content": "Grade."},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Answer: {{sample.output_text}}"},
                "Reference: {{item.a}}",
                {"type": "input_image", "image_url": "{{item.image}}", "detail": "low"},
            ],
        },
    ],
    "range": [0, 10],
    "sampling_params": {"temperature": 0, "seed": 7, "max_completions_tokens": 300},
}
LABEL = {
    "type": "label_model",
    "name": "n",
    "model": "judge",
    "input": [{"role": "user", "content": "{{sample.output_text}}"}],
    "labels": ["good", "fair", "bad"],
    "passing_labels": ["good", "fair"],
}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def ask(grader, services, sample="{{item.a}}"):
    item = {"a": "4", "image": "data:image/png;base64,AA=="}
    return run({"grader": grader, "item": item, "model_sample": sample}, services=services)


def verdict(result):
    return json.dumps({"steps": [{"description": "d", "conclusion": "c"}], "result": result})


def flags(response):
    return [name for name, is_set in response["metadata"]["errors"].items() if is_set is True]


def test_what_the_judge_is_asked(server, services):
    server.chat(verdict(7))
    response = ask(JUDGE, services)
    ((path, headers, body),) = server.requests
    assert path == "v1/chat/completions"
    assert headers["authorization"] == "Bearer key-of-the-test"
    assert body["model"] == "judge"
    assert body["messages"] == [
        {"role": "system", "content": "Grade."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Answer: {{item.a}}"},
                {"type": "text", "text": "Reference: 4"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
            ],
        },
    ]
    assert (body["temperature"], body["seed"], body["max_completion_tokens"]) == (0, 7, 300)
    schema = body["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == ["steps", "result"]
    assert response["reward"] == 7.0
    assert response["model_grader_token_usage_per_model"] == {"judge": USAGE}
    assert (response["metadata"]["token_usage"], response["metadata"]["sampled_model_name"]) == (15, "judge")


@pytest.mark.parametrize(("result", "reward"), [(7.5, 7.5), (0, 0.0), (11, 10.0), (-1e9, 0.0)])
def test_the_range(server, services, result, reward):
    server.chat(verdict(result))
    assert ask(JUDGE, services)["reward"] == reward


@pytest.mark.parametrize("result", ["7", None, True, [7], "NaN"])
def test_no_number_is_no_reward(server, services, result):
    server.chat(verdict(result))
    response = ask(JUDGE, services)
    assert (response["reward"], flags(response)) == (None, ["model_grader_parse_error"])
    assert response["metadata"]["token_usage"] == 15


@pytest.mark.parametrize("content", ["I would say 7.", "", "7", "[]", "{}", '{"result": NaN}'])
def test_prose_is_no_reward(server, services, content):
    server.chat(content)
    response = ask(JUDGE, services)
    assert (response["reward"], flags(response)) == (None, ["model_grader_parse_error"])


def test_a_refusal_is_no_reward(server, services):
    server.chat(None, refusal="I cannot judge this.")
    response = ask(JUDGE, services)
    assert (response["reward"], flags(response)) == (None, ["model_grader_refusal_error"])


def test_a_judge_that_is_down_is_no_reward(server, services):
    server.replies.append((500, {"error": {"message": "down"}}))
    response = ask(JUDGE, services)
    assert (response["reward"], flags(response)) == (None, ["model_grader_server_error"])
    assert response["metadata"]["errors"]["model_grader_server_error_details"]
    assert "key-of-the-test" not in str(response)


@pytest.mark.parametrize(("label", "reward"), [("good", 1.0), ("fair", 1.0), ("bad", 0.0)])
def test_labels(server, services, label, reward):
    server.chat(verdict(label))
    assert ask(LABEL, services)["reward"] == reward
    schema = server.requests[0][2]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["result"]["enum"] == ["good", "fair", "bad"]


@pytest.mark.parametrize("label", ["Good", "excellent", "", 1, None, ["good"]])
def test_another_label_is_no_reward(server, services, label):
    server.chat(verdict(label))
    response = ask(LABEL, services)
    assert (response["reward"], flags(response)) == (None, ["model_grader_parse_error"])


def test_usage_adds_up_in_a_multi_grader(server, services):
    server.chat(verdict(1))
    graders = {"a": JUDGE, "b": JUDGE}
    response = ask({"type": "multi", "name": "m", "graders": graders, "calculate_output": "a + b"}, services)
    assert response["reward"] == 2.0
    assert response["model_grader_token_usage_per_model"] == {"judge": {name: 2 * n for name, n in USAGE.items()}}
    assert (response["metadata"]["token_usage"], response["metadata"]["sampled_model_name"]) == (30, None)
