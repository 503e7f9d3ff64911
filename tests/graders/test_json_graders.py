"""JSON schema and JSON match: verdicts by hand, and answers made to break a parser."""

import pytest

from graders.json_match import JsonMatch
from graders.json_schema import JsonSchema
from rft.grading import Status, Task, grader_problems

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
HOSTILE = ["[" * 100_000, '{"a":' * 20_000, "9" * 10_000, "1e999", "NaN", '{"a":1,"a":2}', '"' + "x" * 200_000 + '"']


def task(**item):
    return Task(id="t", messages=({"role": "user", "content": "?"},), item=item, split="train")


@pytest.mark.parametrize(
    ("completion", "value", "status"),
    [
        ('{"name": "Ada", "age": 36}', 1.0, Status.OK),
        ('```json\n{"name": "Ada", "age": 36}\n```', 1.0, Status.OK),
        ('<think>so</think>{"name": "Ada", "age": 36}', 1.0, Status.OK),
        ('{"name": "Ada", "age": "36"}', 0.0, Status.OK),
        ('{"name": "Ada"}', 0.0, Status.OK),
        ('{"name": "Ada", "age": 36, "more": 1}', 0.0, Status.OK),
        ("{}", 0.0, Status.OK),
        ("[]", 0.0, Status.OK),
        ('Sure: {"name": "Ada", "age": 36}', 0.0, Status.INVALID_OUTPUT),
        ('{"name": "Ada", "age": 36', 0.0, Status.INVALID_OUTPUT),
        ("", 0.0, Status.NO_ANSWER),
        ('<think>{"name": "Ada", "age": 36}', 0.0, Status.NO_ANSWER),
        *((text, 0.0, Status.INVALID_OUTPUT) for text in HOSTILE),
    ],
)
def test_schema(completion, value, status):
    for grader in (JsonSchema(schema=SCHEMA), JsonSchema(column="schema")):
        score = grader.grade(completion, task(schema=SCHEMA))
        assert (score.value, score.status) == (value, status)


def test_schema_says_what_is_wrong_and_where():
    score = JsonSchema(schema=SCHEMA).grade('{"name": "Ada", "age": -1}', task())
    assert score.reason == "$.age: -1 is less than the minimum of 0"


def test_schema_fetches_nothing():
    import referencing.exceptions

    grader = JsonSchema(schema={"$ref": "http://127.0.0.1:9/schema.json"})
    with pytest.raises(referencing.exceptions.Unresolvable):
        grader.grade("{}", task())


def test_a_deep_answer_does_not_break_a_recursive_schema():
    grader = JsonSchema(schema={"type": "array", "items": {"$ref": "#"}})
    assert grader.grade("[" * 50 + "]" * 50, task()).value == 1.0


@pytest.mark.parametrize(
    "schema", [{"multipleOf": 0.1}, {"multipleOf": 3}, {"maximum": 5}, {"const": 1}, {"enum": [1]}]
)
def test_large_numbers_do_not_break_a_schema(schema):
    assert JsonSchema(schema=schema).grade("7" * 300, task()).status is Status.OK


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "either schema or column"),
        ({"schema": {}, "column": "schema"}, "either schema or column"),
        ({"schema": {"type": "text"}}, "$.type: 'text' is not"),
    ],
)
def test_schema_problems(options, problem):
    assert problem in grader_problems("g", {"use": "json_schema", **options})[0]


def test_tasks_without_a_reference_are_skipped_and_bad_ones_errors():
    assert JsonSchema(column="schema").grade("{}", task(schema=None)) is None
    assert JsonMatch().grade("{}", task(answer=None)) is None
    with pytest.raises(ValueError, match="not a JSON schema"):
        JsonSchema(column="schema").grade("{}", task(schema={"type": 1}))
    for answer in ({}, [], "[1]", 3):
        with pytest.raises(ValueError, match="is not an object with fields"):
            JsonMatch().grade("{}", task(answer=answer))
    with pytest.raises(ValueError, match="lacks the fields b"):
        JsonMatch(fields=("a", "b")).grade("{}", task(answer={"a": 1}))


GOLD = {"name": "Ada", "total": 0.3, "tags": ["x", "y"], "at": {"city": "London", "zip": None}}


@pytest.mark.parametrize(
    ("options", "answer", "value"),
    [
        ({}, '{"name": "Ada", "total": 0.3, "tags": ["x", "y"], "at": {"city": "London", "zip": null}}', 1.0),
        ({}, '{"name": " Ada ", "total": 3e-1, "tags": ["x", "y"], "at": {"zip": null, "city": "London"}}', 1.0),
        ({}, '{"name": "ada", "total": 0.3, "tags": ["y", "x"], "at": {"city": "London"}}', 0.25),
        ({"ignore_case": True}, '{"name": "ada", "total": 0.31}', 0.25),
        ({"tolerance": 0.01}, '{"name": "Ada", "total": 0.31}', 0.5),
        ({"tolerance": 0.01}, '{"name": "Ada", "total": 0.311}', 0.25),
        ({"fields": ("name",)}, '{"name": "Ada", "other": 1}', 1.0),
        ({"fields": ("name", "at.city")}, '{"name": "Ada", "at": {"city": "Rome"}}', 0.5),
        ({"fields": ("at.zip",)}, '{"at": {"zip": null}}', 1.0),
        ({"fields": ("at.zip",)}, '{"at": {}}', 0.0),
        ({"fields": ("at.zip",)}, '{"at": "zip"}', 0.0),
        ({"fields": ("total",)}, '{"total": "0.3"}', 0.0),
        ({"fields": ("total",)}, '{"total": [0.3]}', 0.0),
        ({"fields": ("total",), "tolerance": 1}, '{"total": true}', 0.0),
        ({"fields": ("total",)}, '{"total": ' + "7" * 300 + "}", 0.0),
        ({}, "{}", 0.0),
        ({}, '["Ada"]', 0.0),
    ],
)
def test_match(options, answer, value):
    score = JsonMatch(**options).grade(answer, task(answer=GOLD))
    assert (score.value, score.status) == (pytest.approx(value), Status.OK)


@pytest.mark.parametrize("completion", [*HOSTILE, "Ada", '{"name": "Ada"'])
def test_match_of_what_is_no_json(completion):
    score = JsonMatch().grade(completion, task(answer='{"name": "Ada"}'))
    assert (score.value, score.status) == (0.0, Status.INVALID_OUTPUT)


def test_match_says_which_fields_are_wrong():
    assert JsonMatch().grade('{"name": "Ada", "total": 0.3}', task(answer=GOLD)).reason == "wrong: tags, at"


def test_match_problems():
    assert "tolerance=-1" in grader_problems("g", {"use": "json_match", "tolerance": -1})[0]
    assert "repeats a field" in grader_problems("g", {"use": "json_match", "fields": ["a", "a"]})[0]
