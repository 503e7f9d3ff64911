"""Repetition: shares counted by hand."""

import time

import pytest

from graders.repetition import Repetition
from rft.grading import grader_problems


@pytest.mark.parametrize(
    ("options", "completion", "value"),
    [
        ({"ngram": 1, "free_share": 0.0}, "a b c d", 0.0),
        ({"ngram": 1, "free_share": 0.0}, "a b a b", -0.5),
        ({"ngram": 1, "free_share": 0.0}, "A a a A", -0.75),
        ({"ngram": 2, "free_share": 0.0}, "a b a b", -1 / 3),
        ({"ngram": 1, "free_share": 0.5}, "a b a b", 0.0),
        ({"ngram": 1, "free_share": 0.5}, "a a a a", -0.5),
        ({"ngram": 1, "free_share": 0.0}, "!!!!", -0.75),
        ({"ngram": 1, "free_share": 0.0}, "\u662f\u662f", -0.5),
        ({"ngram": 1, "free_share": 0.0}, "a" * 80, -0.75),
        ({}, "", 0.0),
        ({}, "a a a", 0.0),
        ({}, "the quick brown fox jumps over the lazy dog and runs away", 0.0),
    ],
)
def test_penalty(options, completion, value):
    assert Repetition(**options).grade(completion) == pytest.approx(value)


def test_endless_repetition_costs_nearly_all_and_no_time():
    start = time.process_time()
    for text in ("Paris " * 50_000, "a" * 300_000, "\u662f" * 100_000):
        assert Repetition().grade(text) < -0.99
    assert time.process_time() - start < 3.0


def test_problems():
    (problem,) = grader_problems("g", {"use": "repetition", "ngram": 0, "free_share": 1.0})
    assert "ngram=0" in problem and "free_share=1.0" in problem
