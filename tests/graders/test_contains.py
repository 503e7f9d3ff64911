"""Contains: verdicts by hand."""

import pytest

from graders.contains import Contains
from rft.grading import Status, Task, grader_problems


def task(**item):
    return Task(id="t", messages=({"role": "user", "content": "?"},), item=item, split="train")


CITIES = ["Rome", "Paris", "Oslo"]


@pytest.mark.parametrize(
    ("options", "completion", "value"),
    [
        ({"column": "answer"}, "It is Paris.", 1.0),
        ({"column": "answer"}, "it is PARIS", 1.0),
        ({"column": "answer", "ignore_case": False}, "it is PARIS", 0.0),
        ({"column": "answer"}, "Parisian", 0.0),
        ({"column": "answer"}, "Rome", 0.0),
        ({"column": "answer"}, "It is not Paris.", 0.0),
        ({"column": "answer"}, "It isn't Paris", 0.0),
        ({"column": "answer"}, "Not Rome, but Paris", 1.0),
        ({"column": "answer"}, "Paris" + " x" * 50, 1.0),
        ({"column": "answer"}, "Paris" + " x" * 51, 0.0),
        ({"column": "answer", "slack_chars": 0}, "Paris", 1.0),
        ({"column": "answer", "slack_chars": 0}, "Paris.", 0.0),
        ({"column": "answer"}, "Rome, Paris, Oslo", 0.0),
        ({"column": "answer"}, "The answer is Rome, Paris, Oslo.", 0.0),
        ({"column": "answer"}, "Rome\nParis\nOslo", 0.0),
        ({"column": "answer"}, "- Rome\n- Paris\n- Oslo", 0.0),
        ({"column": "answer"}, "\\boxed{Rome} \\boxed{Paris} \\boxed{Oslo}", 0.0),
        ({"column": "answer"}, "Paris or Rome", 0.0),
        ({"column": "answer"}, "It is either Rome or Paris.", 0.0),
        ({"column": "answer"}, "Paris/Rome", 0.0),
        ({"column": "answer"}, "Paris is wrong; Rome", 0.0),
        ({"column": "answer"}, "Paris, France", 1.0),
        ({"column": "answer"}, "Paris, the capital of France, on the Seine.", 1.0),
        ({"column": "answer"}, "It is Paris, not Rome or Oslo.", 1.0),
        ({"column": "answer"}, "The city that never sleeps is Paris", 1.0),
        ({"column": "answer"}, "Paris<|im_end|>", 1.0),
        ({"texts": ("Paris", "Lutetia"), "mode": "any"}, "Paris or Lutetia", 1.0),
        ({"column": "answer", "choices_column": "cities"}, "Rome, Paris, Oslo", 0.0),
        ({"column": "answer", "choices_column": "cities"}, "Paris", 1.0),
        ({"column": "answer", "choices_column": "cities"}, "Paris, not Rome", 1.0),
        ({"texts": ("a", "b")}, "b and a", 1.0),
        ({"texts": ("a", "b")}, "b", 0.0),
        ({"texts": ("a", "b"), "mode": "any"}, "b", 1.0),
        ({"texts": ("a", "b"), "mode": "any"}, "c", 0.0),
        ({"texts": ("c++",)}, "I use c++ a lot", 1.0),
        ({"column": "cities"}, "Oslo, Rome, Paris", 1.0),
    ],
)
def test_verdict(options, completion, value):
    score = Contains(**options).grade(completion, task(answer="Paris", cities=CITIES))
    assert (score.value, score.status) == (value, Status.OK)


def test_no_answer_and_no_reference():
    grader = Contains(column="answer")
    assert grader.grade("<think>Paris", task(answer="Paris")).status is Status.NO_ANSWER
    assert grader.grade("Paris", task(answer=None)) is None
    assert grader.grade("Paris", task(answer=[])) is None
    with pytest.raises(ValueError, match="empty text"):
        grader.grade("Paris", task(answer=" "))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "either texts or column"),
        ({"texts": ["a"], "column": "b"}, "either texts or column"),
        ({"texts": [" "]}, "must not be empty"),
        ({"texts": ["a"], "slack_chars": -1}, "slack_chars=-1"),
    ],
)
def test_problems(options, problem):
    assert problem in grader_problems("g", {"use": "contains", **options})[0]
