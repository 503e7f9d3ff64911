"""The answer in a completion: what follows the thinking, and JSON from a stranger."""

import time

import pytest

from rft.grading.answers import MAX_JSON_CHARS, MAX_JSON_DEPTH, final_answer, json_answer


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("<think>hm</think>\n 18 ", "18"),
        ("<think>hm", ""),
        ("18</s>", "18"),
        ("Paris<|im_end|>\n", "Paris"),
        ("18<end_of_turn>\n<eos>", "18"),
        ("<|im_end|> 18", "<|im_end|> 18"),
        ("a < b</s> is b", "a < b</s> is b"),
    ],
)
def test_final_answer(completion, answer):
    assert final_answer(completion) == answer


@pytest.mark.parametrize("ending", ["<|im_end|>", "</s>"])
def test_json_before_the_end_of_a_turn(ending):
    assert json_answer(f'{{"a": 1}}{ending}') == {"a": 1}


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
