"""The answer in a completion: marked answers, negations, and JSON from a stranger."""

import time

import pytest

from rft.grading.answers import MAX_JSON_CHARS, MAX_JSON_DEPTH, is_negated, json_answer, stated_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("\\boxed{4}", "4"),
        ("\\boxed{1} then \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\boxed{4", None),
        ("The answer is 4.", "4."),
        ("The answer is: 4", "4"),
        ("Answer: 3\nno, answer: 4\nbye", "4"),
        ("**Answer:** 4", "** 4"),
        ("Answer:\n\n4\n5", "4"),
        ("12 + 6 = 18\n#### 18", "18"),
        ("#### 18 and \\boxed{19}", "19"),
        ("The answers are many", None),
        ("4", None),
        ("", None),
    ],
)
def test_stated_answer(text, answer):
    assert stated_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "negated"),
    [
        ("it is not 42", True),
        ("it isn't 42", True),
        ("it isn\u2019t 42", True),
        ("It cannot be 42", True),
        ("not 41, but 42", False),
        ("I did not think. 42", False),
        ("a note: 42", False),
        ("it is not equal to the 42", True),
        ("7 does not divide it so it must be 42", False),
        ("not not in any way equal to 42", False),
        ("42", False),
        ("not" + " " * 80 + "42", False),
    ],
)
def test_is_negated(text, negated):
    assert is_negated(text, text.index("42")) is negated


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ("<think>{}</think>\n[1]", [1]),
        ('"[[[[" ', "[[[["),
        ('"\\"[" ', '"['),
        ("[" * MAX_JSON_DEPTH + "]" * MAX_JSON_DEPTH, None),
        ('```json\r\n{"a": 1}\r\n```', {"a": 1}),
        ('``` json\n{"a": 1}\n```', {"a": 1}),
        ('```json {"a": 1} ```', {"a": 1}),
        ('```{"a": 1}```', {"a": 1}),
        ('\ufeff{"a": 1}', {"a": 1}),
        ('Here it is:\n```json\n{"a": 1}\n```\nAnything else?', {"a": 1}),
        ('{"a": "```json 1 ```"}', {"a": "```json 1 ```"}),
    ],
)
def test_json_answer(text, value):
    found = json_answer(text)
    assert found == value or value is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "<think>{}",
        'Here: {"a": 1}',
        '```json\n{"a": 1}\n```\nor\n```json\n{"a": 2}\n```',
        '{"a": 1} {"a": 2}',
        '{"a": 1, "a": 2}',
        "NaN",
        "[Infinity]",
        "[-Infinity]",
        "1e999",
        "9" * 400,
        "[" * (MAX_JSON_DEPTH + 1) + "]" * (MAX_JSON_DEPTH + 1),
        '{"a":' * 10_000,
        '"' + "x" * MAX_JSON_CHARS + '"',
        '"\\' * 40_000,
    ],
)
def test_what_is_no_json_answer(text):
    start = time.process_time()
    with pytest.raises(ValueError):
        json_answer(text)
    assert time.process_time() - start < 0.5
