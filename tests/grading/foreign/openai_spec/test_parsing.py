"""What is wrong with a grader's JSON: every problem, each with its path. And what is right with it."""

import json

import pytest

from rft.grading.foreign.openai_spec import SpecError, load_openai, validate

CHECK = {
    "type": "string_check",
    "name": "n",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "operation": "eq",
}
SIMILAR = {
    "type": "text_similarity",
    "name": "n",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "evaluation_metric": "bleu",
}
JUDGE = {
    "type": "score_model",
    "name": "n",
    "model": "judge",
    "input": [{"role": "user", "content": "{{sample.output_text}}"}],
}
LABEL = JUDGE | {"type": "label_model", "labels": ["good", "bad"], "passing_labels": ["good"]}
PYTHON = {"type": "python", "source": "def grade(sample, item):\n    return 1.0\n"}
ENDPOINT = {"type": "endpoint", "name": "n", "url": "https://example.org/grade"}
MULTI = {"type": "multi", "name": "n", "graders": {"a": CHECK, "b": SIMILAR}, "calculate_output": "0.8 * a + 0.2 * b"}
FORMAT = {"type": "json_schema", "json_schema": {"name": "r", "strict": True, "schema": {"type": "object"}}}


def problems(source, **options):
    with pytest.raises(SpecError) as caught:
        load_openai(source, **options)
    return caught.value.problems


@pytest.mark.parametrize("grader", [CHECK, SIMILAR, JUDGE, LABEL, PYTHON, ENDPOINT, MULTI], ids=lambda g: g["type"])
def test_validate_echoes_a_grader(grader):
    echo = validate({"grader": grader})["grader"]
    assert {key: echo[key] for key in grader if key != "graders"} == {k: v for k, v in grader.items() if k != "graders"}
    assert validate({"grader": echo})["grader"] == echo
    assert json.loads(json.dumps(echo)) == echo


@pytest.mark.parametrize("grader", [CHECK, SIMILAR, JUDGE, LABEL, PYTHON, ENDPOINT, MULTI], ids=lambda g: g["type"])
def test_keys_that_replies_of_the_api_have_are_taken(grader):
    assert validate({"grader": grader | {"id": "grader-1", "pass_threshold": 0.5}})["grader"]["pass_threshold"] == 0.5


def test_a_judge_that_labels_may_be_sampled_as_it_is_told():
    grader = LABEL | {"sampling_params": {"temperature": 0}}
    assert validate({"grader": grader})["grader"]["sampling_params"] == {"temperature": 0.0}


def test_a_file_of_openais_storage_is_refused_with_what_to_do():
    image = {"type": "input_image", "file_id": "file-1"}
    found = problems(JUDGE | {"input": [{"role": "user", "content": [image]}]})
    assert "$.input[0].content[0].file_id: rft cannot read files in OpenAI's storage; set image_url" in found[1]


def test_validate_fills_in_names_and_defaults():
    echo = validate({"grader": MULTI | {"graders": {"a": {**PYTHON}, "b": JUDGE}}})["grader"]
    assert echo["graders"]["a"]["name"] == "a"
    assert echo["graders"]["b"]["range"] == [0.0, 1.0]
    assert validate({"grader": PYTHON})["grader"]["name"] == "python"


def test_the_graders_of_a_multi_may_be_a_list():
    graders = [CHECK | {"name": "a"}, SIMILAR | {"name": "b"}]
    assert set(load_openai(MULTI | {"graders": graders}).spec.graders) == {"a", "b"}
    assert problems(MULTI | {"graders": [CHECK, SIMILAR]})[0].startswith(
        "$.graders: in a list each grader needs a unique name"
    )


def test_all_problems_at_once():
    found = problems(
        {
            "type": "multi",
            "name": "n",
            "graders": {
                "a": SIMILAR | {"evaluation_metric": "blue", "input": "{{ foo.x }} {{ sample.bar }}"},
                "b": CHECK | {"operation": "neq", "colour": "red"},
                "c": {"type": "string_chek"},
                "d": MULTI,
                "e": {"type": "text_similarity"},
                "f": JUDGE | {"input": [{"role": "judge", "content": [{"type": "input_text"}]}], "range": [1, 0]},
                "g-h": CHECK,
                "i": 7,
            },
            "calculate_output": "a + z",
        }
    )
    starts = [
        "$.graders.g-h: 'g-h' is not a name of letters, digits and '_'",
        "$.graders.a.input: '{{ foo.x }}' at character 0: 'foo' is unknown",
        "$.graders.a.input: '{{ sample.bar }}' at character 12: a sample has no 'bar'",
        "$.graders.a.evaluation_metric: 'blue': should be 'cosine', 'fuzzy_match', 'bleu'",
        "$.graders.b.operation: 'neq': should be 'eq', 'ne', 'like' or 'ilike'",
        "$.graders.b.colour: unknown key",
        "$.graders.c.type: 'string_chek' is not a type of grader (did you mean 'string_check'?); the types are",
        "$.graders.d.type: a multi grader cannot contain a multi grader",
        "$.graders.e.input: missing",
        "$.graders.e.reference: missing",
        "$.graders.e.evaluation_metric: missing",
        "$.graders.f.input[0].role: 'judge': should be 'system', 'developer', 'user' or 'assistant'",
        "$.graders.f.input[0].content[0].text: missing",
        "$.graders.f.range: [1.0, 0.0] must be [lowest, highest]",
        "$.graders.i: 7 is not a JSON object",
        "$.calculate_output: character 4: there is no grader 'z'; the graders are a, b, c",
    ]
    assert len(found) == len(starts)
    for problem, start in zip(found, starts, strict=True):
        assert problem.startswith(start)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({}, "$.type: missing; the types are string_check,"),
        ({"type": ["x"]}, "$.type: ['x'] is not a type of grader"),
        (CHECK | {"operation": "like", "reference": ""}, "$.reference: every text contains the empty reference"),
        (CHECK | {"operation": "ilike", "reference": ""}, "$.reference: every text contains the empty reference"),
        (SIMILAR | {"reference": ""}, "$.reference: no text is similar to an empty reference"),
        (CHECK | {"input": 3}, "$.input: 3 is not a text"),
        (JUDGE | {"input": []}, "$.input: []: should have at least 1 item"),
        (JUDGE | {"input": "text"}, "$.input: 'text': should be a list"),
        (JUDGE | {"model": ""}, "$.model: ''"),
        (JUDGE | {"range": [0, 1, 2]}, "$.range: [0, 1, 2]: should have at most 2 items"),
        (JUDGE | {"range": [0, float("inf")]}, "$.range[1]: inf: should be a finite number"),
        (JUDGE | {"sampling_params": {"top_k": 1}}, "$.sampling_params.top_k: unknown key"),
        (JUDGE | {"sampling_params": {"max_completions_tokens": 0}}, "$.sampling_params.max_completions_tokens: 0"),
        (
            JUDGE | {"input": [{"role": "user", "content": {"type": "x"}}]},
            "$.input[0].content: expected a text, or blocks",
        ),
        (LABEL | {"passing_labels": ["fine"]}, "$.passing_labels: ['fine'] are not among the labels ['good', 'bad']"),
        (PYTHON | {"source": "def grade(sample, item:"}, "$.source: line 1: syntax error"),
        (PYTHON | {"source": "def score(sample, item): pass"}, "$.source: the source defines no function grade("),
        (PYTHON | {"source": "def grade(sample, item, x): pass"}, "$.source: grade takes exactly two arguments"),
        (PYTHON | {"source": "def grade(sample): pass"}, "$.source: grade takes exactly two arguments"),
        (PYTHON | {"source": "x = 0\0"}, "$.source: "),
        (PYTHON | {"source": PYTHON["source"] + "#" * 256_000}, "$.source: the source has 256040 bytes"),
        (ENDPOINT | {"url": "file:///x"}, "$.url: 'file:///x'"),
        (ENDPOINT | {"rate_limit": 0}, "$.rate_limit: 0"),
        (MULTI | {"graders": {}, "calculate_output": "1"}, "$.graders: {}"),
        (MULTI | {"graders": {"min": CHECK}, "calculate_output": "1"}, "$.graders.min: 'min' is a function"),
        (
            MULTI | {"calculate_output": "a +"},
            "$.calculate_output: character 3: expected a number, a grader or '(', got the end",
        ),
        (MULTI | {"calculate_output": 1}, "$.calculate_output: 1 is not a text"),
        ("{not JSON", "$: the text is not JSON: line 1, column 2"),
        ('{"type": "multi", "graders": {"a": {}, "a": {}}}', "$: an object repeats the key 'a'"),
        ("/no/such/grader.json", "$: /no/such/grader.json cannot be read: No such file"),
        ("[" * 10 + "{", "$: "),
        ({"grader": CHECK, "hyperparameter": {}}, "$.hyperparameter: unknown key; a job has grader, response_format"),
        ({"grader": CHECK | {"operation": "is"}}, "$.grader.operation: 'is'"),
        ({"grader": CHECK, "response_format": "json"}, "$.response_format: 'json' is not {'type': 'json_schema'"),
        (CHECK | {"input": "{{sample.output_json.x}}"}, "$: '{{sample.output_json.x}}' requires sample.output_json"),
    ],
)
def test_problems(source, problem):
    found = problems(source)
    assert found[0].startswith(problem)


def test_headers_are_not_shown():
    secret = {"Authorization": "Bearer secret", "X": 7}
    assert "secret" not in "".join(problems(ENDPOINT | {"headers": secret}))
    assert "secret" not in repr(load_openai(ENDPOINT | {"headers": {"Authorization": "Bearer secret"}}))


def test_a_schema_that_is_none():
    wrong = {"type": "json_schema", "json_schema": {"name": "r", "schema": {"type": "objekt"}}}
    assert problems(CHECK, response_format=wrong)[0].startswith("$.response_format.json_schema.schema: $.type")
    assert "missing" in problems(CHECK, response_format={"type": "json_schema", "json_schema": {}})[0]


def test_sources(tmp_path):
    file = tmp_path / "grader.json"
    file.write_text(json.dumps(CHECK))
    job = {"grader": CHECK | {"input": "{{sample.output_json.x}}"}, "response_format": FORMAT, "hyperparameters": {}}
    assert load_openai(str(file)) == load_openai(json.dumps(CHECK)) == load_openai(CHECK)
    assert load_openai(job).response_format == FORMAT
