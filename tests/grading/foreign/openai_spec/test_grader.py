"""OpenAI graders as graders of rft: what a sample is, and which status each fault gets."""

import asyncio

import pytest

from rft.grading.foreign.openai_spec import load_openai
from rft.grading.foreign.openai_spec.sample import sample_of_completion
from rft.turns import Author, Turn
from rft.types import Policy, Rollout, Status, StopReason, Task

CHECK = {"type": "string_check", "input": "{{sample.output_text}}", "reference": "{{item.answer}}", "operation": "eq"}
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "r", "strict": True, "schema": SCHEMA}}
TASK = Task(id="t", messages=({"role": "user", "content": "?"},), item={"answer": "4"}, split="train")


def grade(grader, text, *, stop=StopReason.STOP, task=TASK):
    rollout = Rollout(
        task_id=task.id,
        index=0,
        prompt_ids=(1,),
        completion_ids=(2,),
        logprobs=(0.0,),
        text=text,
        stop=stop,
        policy=Policy(version=0, fingerprint="f"),
    )
    return asyncio.run(grader.grade(text, task, rollout))


@pytest.mark.parametrize(
    ("text", "value"), [("4", 1.0), ("<think>5</think>\n 4\n", 1.0), ("5", 0.0), ("", 0.0), ("<think>4", 0.0)]
)
def test_the_final_answer_is_graded(text, value):
    score = grade(load_openai(CHECK), text)
    assert (score.value, score.status, score.reason) == (value, Status.OK, None)


@pytest.mark.parametrize(
    ("text", "stop", "value", "status"),
    [
        ("<think>hm", StopReason.LENGTH, 0.0, Status.NO_ANSWER),
        ("", StopReason.LENGTH, 0.0, Status.NO_ANSWER),
        ("4", StopReason.LENGTH, 1.0, Status.OK),
    ],
)
def test_a_completion_that_was_cut(text, stop, value, status):
    score = grade(load_openai(CHECK), text, stop=stop)
    assert (score.value, score.status) == (value, status)
    assert status is Status.OK or score.reason.startswith("truncated_observation_error: ")


@pytest.mark.parametrize(
    ("text", "value", "status"),
    [
        ('{"x": 4}', 1.0, Status.OK),
        ('<think>hm</think>{"x": 4}', 1.0, Status.OK),
        ('{"x": 5}', 0.0, Status.OK),
        ('{"x": "4"}', 0.0, Status.INVALID_OUTPUT),
        ("{}", 0.0, Status.INVALID_OUTPUT),
        ("4", 0.0, Status.INVALID_OUTPUT),
    ],
)
def test_response_format(text, value, status):
    grader = load_openai({"grader": CHECK | {"input": "{{sample.output_json.x}}"}, "response_format": FORMAT})
    score = grade(grader, text)
    assert (score.value, score.status) == (value, status)
    assert status is Status.OK or score.reason.startswith("sample_parse_error: ")


def test_a_schema_that_refers_elsewhere_fetches_nothing(server):
    server.replies.append((200, {}))
    schema = {"$ref": f"{server.url}/schema.json"}
    elsewhere = {"type": "json_schema", "json_schema": {"name": "r", "schema": schema}}
    with pytest.raises(Exception, match=r"schema\.json"):
        grade(load_openai(CHECK, response_format=elsewhere), "4")
    assert server.requests == []


def test_faults_of_the_row_and_of_the_model():
    row = grade(load_openai(CHECK | {"reference": "{{item.gold}}"}), "4")
    assert (row.value, row.status) == (None, Status.GRADER_ERROR)
    assert row.reason == "invalid_variable_error: {{ item.gold }} is missing: item.gold does not exist"
    model = grade(load_openai(CHECK | {"input": "{{sample.output_tools[0].function.name}}"}), "4")
    assert (model.value, model.status) == (0.0, Status.NO_ANSWER)


def test_the_status_of_a_multi_grader():
    tool = CHECK | {"input": "{{sample.output_tools[0].function.name}}"}
    grader = load_openai({"type": "multi", "graders": {"a": CHECK, "b": tool}, "calculate_output": "0.5 * a + 0.5 * b"})
    score = grade(grader, "4")
    assert (score.value, score.status) == (0.5, Status.NO_ANSWER)
    assert score.reason.startswith("a 1, b 0; invalid_variable_error: ")
    lacking = load_openai(
        {
            "type": "multi",
            "graders": {"a": CHECK | {"reference": "{{item.gold}}"}, "b": tool},
            "calculate_output": "a + b",
        }
    )
    score = grade(lacking, "4")
    assert (score.value, score.status) == (None, Status.GRADER_ERROR)
    assert score.reason.startswith("a none, b 0; invalid_variable_error: {{ item.gold }}")


def test_a_multi_grader_may_say_what_a_completion_that_cannot_be_graded_scores():
    spec = {"type": "multi", "graders": {"a": CHECK}, "calculate_output": "a", "invalid_grade": -1.0}
    job = {"grader": spec, "response_format": FORMAT}
    assert grade(load_openai(job), "no JSON").value == -1.0
    assert grade(load_openai({"grader": spec}), "5").value == 0.0
    failing = spec | {"graders": {"a": CHECK | {"reference": "{{item.gold}}"}}}
    assert grade(load_openai({"grader": failing}), "4").value is None  # the grader failed, not the model


def test_tool_calls():
    call = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'
    grader = load_openai(CHECK | {"input": "{{sample.output_tools[0].function.arguments}}"})
    task = Task(id="t", messages=(), item={"answer": '{"x":1}'}, split="train")
    assert grade(grader, call, task=task).value == 1.0
    sample = sample_of_completion(f"<think>a</think>b{call}c{call}", response_format=FORMAT)
    assert (sample.output_text, len(sample.output_tools), sample.fault) == ("bc", 2, None)
    first = {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
    assert sample.as_dict()["choices"] == [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": "bc",
                "tool_calls": [first, first | {"id": "call_1"}],
            },
        }
    ]


@pytest.mark.parametrize(
    "text", ["<tool_call>{}</tool_call>", "<tool_call>x</tool_call>", '<tool_call>{"name": "f"}', "<tool_call>" * 1000]
)
def test_what_is_no_tool_call_stays_in_the_text(text):
    sample = sample_of_completion(text)
    assert (sample.output_text, sample.output_tools) == (text, ())


def test_the_calls_of_an_episode_are_its_output_tools():
    call = {"id": "c00000000", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    messages = ({"role": "assistant", "content": "", "tool_calls": [call]},)
    turns = (
        Turn(author=Author.POLICY, start=0, end=1, messages=messages),
        Turn(author=Author.ENVIRONMENT, start=1, end=2, messages=({"role": "tool", "content": "4"},)),
        Turn(author=Author.POLICY, start=2, end=3, messages=({"role": "assistant", "content": "4"},)),
    )
    calls = {**CHECK, "input": "{{sample.output_tools[0].function.name}}", "reference": "add"}
    for grader in (load_openai(CHECK), load_openai(calls)):
        rollout = Rollout(
            task_id="t",
            index=0,
            prompt_ids=(1,),
            completion_ids=(2, 3, 4),
            logprobs=(0.0,) * 3,
            text="4",
            stop=StopReason.STOP,
            policy=Policy(version=0, fingerprint="f"),
            turns=turns,
        )
        assert asyncio.run(grader.grade("4", TASK, rollout)).value == 1.0
