"""Right and wrong answers that are made of references."""

import json

import pytest

from rft.auditing.answers import (
    FORMATS,
    dressed,
    expression_in,
    is_python,
    is_same,
    near_misses,
    parts_of,
    right_answers,
    short,
)
from rft.types import Task


def task(**item):
    return Task(id="t", messages=({"role": "user", "content": "?"},), item=item, split="train")


def test_every_format_holds_the_answer_once_and_leaves_its_braces_alone():
    answer = r'{"a": "\frac{1}{2} {answer} {json}"}'
    for name, template in FORMATS.items():
        text = dressed(template, answer)
        assert text.count(json.dumps(answer) if name == "json" else answer) == 1, name
    assert dressed(FORMATS["boxed"], "4") == r"\boxed{4}"
    assert dressed(FORMATS["json"], 'say "4"') == '{"answer": "say \\"4\\""}'


def test_the_reference_of_a_multiple_choice_has_a_letter_and_a_text():
    cities = ["Rome", "Paris", "Oslo"]
    assert right_answers(task(answer="B", choices=cities), "answer") == ["B", "Paris"]
    assert right_answers(task(answer=1, options=cities), "answer") == ["1", "B", "Paris"]
    assert right_answers(task(answer="Oslo", choices={"text": cities}), "answer") == ["Oslo", "C"]
    assert right_answers(task(answer="Oslo"), "answer") == ["Oslo"]
    assert right_answers(task(answer={"a": 1}), "answer") == ['{"a": 1}']


@pytest.mark.parametrize(
    ("gold", "answer"),
    [("3 + 4 = 7\n#### 7", "7"), ("so \\boxed{x+1}.", "x+1"), ("the answer is 7", "the answer is 7")],
)
def test_the_answer_in_a_solution(gold, answer):
    assert short(gold) == answer


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("4", "4.0", True),
        (" Paris.", "paris", True),
        ("1,000", "1000", True),
        ("4", "5", False),
        ("x=5", "5", True),
        ("\\frac{1}{2}", "0.5", True),
        ("\\dfrac12", "\\frac{1}{2}", True),
        ("30^\\circ", "30", True),
        ("\\text{even}", "even", True),
        ("(1,2)", "(2,1)", False),
        ("x=5", "x=6", False),
    ],
)
def test_same_answers(one, other, same):
    assert is_same(one, other) is same


def test_near_misses():
    assert near_misses("42") == [
        ("off by one", "43"), ("off by one", "41"), ("its opposite", "-42"), ("an extra digit", "420"),
    ]  # fmt: skip
    assert near_misses("-3")[:3] == [("off by one", "-2"), ("off by one", "-4"), ("its opposite", "3")]
    assert near_misses("0") == [("off by one", "1"), ("off by one", "-1")]
    assert near_misses("2.5") == [("off by one", "3.5"), ("off by one", "1.5"), ("its opposite", "-2.5")]
    assert near_misses("Paris") == [("denied", "It is not Paris.")]
    assert near_misses('{"a": 1}', "x") == near_misses("x = 1\ny = 2", "x") == []


def test_near_misses_that_begin_with_the_answer():
    assert near_misses("18", "5")[-3:] == [
        ("an extra digit", "180"), ("a hedge", "18 or 5"), ("a retraction", "18 is wrong; 5"),
    ]  # fmt: skip
    assert near_misses("Paris", "Rome")[1:] == [("a hedge", "Paris or Rome"), ("a retraction", "Paris is wrong; Rome")]
    assert near_misses("\\frac{1}{2}", "3") == [
        ("a hedge", "\\frac{1}{2} or 3"),
        ("a retraction", "\\frac{1}{2} is wrong; 3"),
    ]


def test_ladders():
    assert parts_of('{"a": 1, "b": 2, "c": 3}') == ['{"a": 1, "b": 2, "c": 3}', '{"a": 1, "b": 2}', '{"a": 1}']
    assert parts_of("one two three four") == ["one two three four", "one two three", "one two", "one"]
    assert parts_of("one two") is parts_of("def f(x):\n    return x + 1 + 2 + 3") is parts_of("[1, 2, 3, 4]") is None


def test_what_is_python():
    assert is_python("def add(a, b):\n    return a + b")
    assert not is_python("The answer is 4.")
    assert not is_python("def add(a, b) return")


@pytest.mark.parametrize(
    ("prompt", "expression"),
    [("What is 21 - 71 ?", "21 - 71"), ("(3 + 4) * 2 =", "(3 + 4) * 2"), ("How many dogs?", None)],
)
def test_the_expression_in_a_prompt(prompt, expression):
    assert expression_in(prompt) == expression
