"""The requests and responses of the grader API, by the openai client's own types, and every error flag."""

import pytest
from openai.types.fine_tuning.alpha import GraderRunResponse

from rft.grading.foreign.openai_spec import SpecError, run, validate
from rft.grading.foreign.openai_spec.faults import Fault, Flag, error_flags

CHECK = {
    "type": "string_check",
    "name": "Example string check grader",
    "input": "{{sample.output_text}}",
    "reference": "{{item.label}}",
    "operation": "eq",
}


def ask(grader, sample="4", item=None, **options):
    return run({"grader": grader, "item": {"label": "4"} if item is None else item, "model_sample": sample}, **options)


def flags(response):
    return [name for name, is_set in response["metadata"]["errors"].items() if is_set is True]


def test_the_response_has_the_documented_shape():
    response = ask(CHECK)
    GraderRunResponse.model_validate(response, strict=True)
    assert response["metadata"].pop("execution_time") >= 0
    assert response == {
        "reward": 1.0,
        "sub_rewards": {},
        "model_grader_token_usage_per_model": {},
        "metadata": {
            "name": "Example string check grader",
            "type": "string_check",
            "scores": {},
            "token_usage": None,
            "sampled_model_name": None,
            "errors": {
                "formula_parse_error": False,
                "sample_parse_error": False,
                "truncated_observation_error": False,
                "unresponsive_reward_error": False,
                "invalid_variable_error": False,
                "other_error": False,
                "python_grader_server_error": False,
                "python_grader_server_error_type": None,
                "python_grader_runtime_error": False,
                "python_grader_runtime_error_details": None,
                "model_grader_server_error": False,
                "model_grader_server_error_details": None,
                "model_grader_refusal_error": False,
                "model_grader_parse_error": False,
            },
        },
    }


@pytest.mark.parametrize(
    ("operation", "sample", "label", "reward"),
    [
        ("eq", "4", "4", 1.0),
        ("eq", " 4", "4", 0.0),
        ("eq", "a", "A", 0.0),
        ("eq", "", "", 1.0),
        ("ne", "4", "4", 0.0),
        ("ne", "5", "4", 1.0),
        ("like", "it is Paris.", "Paris", 1.0),
        ("like", "Paris", "it is Paris.", 0.0),
        ("like", "paris", "Paris", 0.0),
        ("like", "100", "1%", 0.0),
        ("ilike", "it is PARIS", "paris", 1.0),
        ("ilike", "Stra\u00dfe", "STRASSE", 1.0),
        ("ilike", "x", "y", 0.0),
    ],
)
def test_string_check(operation, sample, label, reward):
    assert ask(CHECK | {"operation": operation}, sample, {"label": label})["reward"] == reward


def test_an_empty_reference_is_in_every_text():
    like = CHECK | {"operation": "like"}
    response = ask(like, "4", {"label": ""})
    assert (response["reward"], flags(response)) == (None, ["other_error"])
    turned = like | {"input": "{{item.label}}", "reference": "{{sample.output_text}}"}
    response = ask(turned, "")
    assert (response["reward"], flags(response)) == (0.0, ["other_error"])


@pytest.mark.parametrize(
    ("sample", "reward", "flag"),
    [
        ('{"answer": "4"}', 1.0, []),
        ('{"answer": 4}', 1.0, []),
        ('{"answer": "5"}', 0.0, []),
        ('{"other": "4"}', 0.0, ["invalid_variable_error"]),
        ("no JSON", 0.0, ["invalid_variable_error"]),
        ("null", 0.0, ["invalid_variable_error"]),
        ('{"answer": NaN}', 0.0, ["invalid_variable_error"]),
        ("[" * 100_000, 0.0, ["invalid_variable_error"]),
        ('{"answer": ' + "[" * 500 + "]" * 500 + "}", 0.0, ["invalid_variable_error"]),
    ],
    ids=range(9),
)
def test_output_json(sample, reward, flag):
    response = ask(CHECK | {"input": "{{sample.output_json.answer}}"}, sample)
    assert (response["reward"], flags(response)) == (reward, flag)


def test_a_column_that_is_missing_is_no_reward():
    response = ask(CHECK, item={})
    assert (response["reward"], flags(response)) == (None, ["invalid_variable_error"])


def multi(calculate_output, **graders):
    return {"type": "multi", "name": "m", "graders": graders, "calculate_output": calculate_output}


def test_multi():
    similar = {key: CHECK[key] for key in ("name", "input", "reference")}
    similar |= {"type": "text_similarity", "evaluation_metric": "fuzzy_match"}
    response = ask(multi("0.25 * a + 0.75 * b", a=CHECK, b=similar), "4a")
    GraderRunResponse.model_validate(response, strict=True)
    assert response["reward"] == pytest.approx(0.5)  # 0.25 * 0 + 0.75 * 2/3
    assert response["sub_rewards"] == response["metadata"]["scores"] == {"a": 0.0, "b": pytest.approx(2 / 3)}


def test_a_fault_in_one_grader_of_a_multi():
    lacking = CHECK | {"reference": "{{item.missing}}"}
    response = ask(multi("a + 0 * b", a=CHECK, b=lacking))
    assert (response["reward"], response["sub_rewards"]) == (None, {"a": 1.0, "b": None})
    assert flags(response) == ["invalid_variable_error"]
    unreadable = CHECK | {"input": "{{sample.output_json.x}}"}
    response = ask(multi("0.6 * a + b", a=CHECK, b=unreadable))
    assert (response["reward"], response["sub_rewards"]) == (0.6, {"a": 1.0, "b": 0.0})
    assert flags(response) == ["invalid_variable_error"]


def test_a_formula_without_a_value():
    response = ask(multi("1 / (a - 1)", a=CHECK))
    assert (response["reward"], flags(response)) == (None, ["formula_parse_error"])
    assert response["sub_rewards"] == {"a": 1.0}


def test_every_flag_is_known_to_the_client():
    details = [name for name in error_flags([]) if name not in set(Flag)]
    fields = GraderRunResponse.model_fields["metadata"].annotation.model_fields["errors"].annotation.model_fields
    names = {field.alias or name for name, field in fields.items()}
    assert names == {*Flag, *details}
    assert len(Flag) == 11
    errors = error_flags([Fault(Flag.PYTHON_GRADER_RUNTIME_ERROR, "why"), Fault(Flag.OTHER_ERROR, "x")])
    assert [name for name, value in errors.items() if value] == [
        "other_error",
        "python_grader_runtime_error",
        "python_grader_runtime_error_details",
    ]


@pytest.mark.parametrize(
    ("request_", "problems"),
    [
        ({}, ["$.grader: missing", "$.model_sample: missing"]),
        ({"grader": CHECK, "model_sample": 4, "itme": {}}, ["$.itme: unknown key; ", "$.model_sample: 4 is"]),
        ({"grader": CHECK, "model_sample": "4", "item": [1]}, ["$.item: [1] is not a JSON object"]),
        ({"grader": {"type": "x"}, "model_sample": "4"}, ["$.grader.type: 'x' is not a type of grader"]),
        ("x", ["$: 'x' is not a JSON object"]),
    ],
)
def test_bad_requests(request_, problems):
    with pytest.raises(SpecError) as caught:
        run(request_)
    for found, start in zip(caught.value.problems, problems, strict=True):
        assert found.startswith(start)


def test_bad_requests_to_validate():
    with pytest.raises(SpecError, match=r"\$.grader: missing"):
        validate({"type": "string_check"})


def test_an_item_may_be_left_out():
    grader = CHECK | {"reference": "4"}
    assert run({"grader": grader, "model_sample": "4"})["reward"] == 1.0
    assert run({"grader": grader, "model_sample": "4", "item": None})["reward"] == 1.0
