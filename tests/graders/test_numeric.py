"""Numeric: a table of numbers written by hand, and the verdicts that follow."""

import time
from fractions import Fraction

import pytest

from graders.numeric import Numeric, last_number
from rft.grading import Status, Task, load_grader


def task(answer, **item):
    return Task(id="t", messages=({"role": "user", "content": "?"},), item={"answer": answer, **item}, split="train")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("It is not 18.", None),
        ("It isn't 17, but 18.", 18),
        ("18", 18),
        ("The answer is 18.", 18),
        ("9 eggs * $2 = $18 a day", 18),
        ("1,234", 1234),
        ("1,234,567.89", Fraction(123456789, 100)),
        ("1,2345", 2345),
        ("1, 2, 3", 3),
        ("1,2,3", 3),
        ("$18", 18),
        ("-$5", -5),
        ("$-5", -5),
        ("US$5", 5),
        ("\u20ac7.50", Fraction(15, 2)),
        ("50%", 50),
        ("-7", -7),
        ("\u22127", -7),
        ("x=-7", -7),
        ("x = \u22127", -7),
        ("10-3", 3),
        ("(-3)", -3),
        ("+4", 4),
        (".5", Fraction(1, 2)),
        ("0.50", Fraction(1, 2)),
        ("18.00", 18),
        ("007", 7),
        ("1e3", 1000),
        ("1.5E-2", Fraction(3, 200)),
        ("1e12345", None),
        ("1/2", Fraction(1, 2)),
        ("-3 / 4", Fraction(-3, 4)),
        ("18/2 = 9", 9),
        ("1/0", None),
        (r"\boxed{18}", 18),
        (r"\boxed{\frac{1}{2}}", Fraction(1, 2)),
        (r"$\$1,000$", 1000),
        ("**18**", 18),
        ("18km", 18),
        ("H2O", None),
        ("x2", None),
        ("18 on the 2nd", 18),
        ("the 12th", None),
        ("1_000", None),
        ("...18", 18),
        ("3.14.15", Fraction(314, 100)),
        ("caf\u00e95", None),
        ("nan", None),
        ("inf", None),
        ("Infinity", None),
        ("\u0661\u0662", 12),
        ("\uff11\uff12", 12),
        ("14{,}916", 14916),
        ("14\\,916", 14916),
        ("10,\\!080", 10080),
        ("\u7b54\u6848\u662f18\u3002", 18),
        ("\u4e00\u5171\u670918\u4e2a", 18),
        ("The number of days Sam did not work is \\(\\boxed{6}\\).", 6),
        ("The largest amount that cannot be made is \\boxed{43}.", 43),
        ("The number of students who do not play is 12.", 12),
        ("x cannot be \\boxed{5}.", 5),
        ("It is not \\boxed{5}.", None),
        ("The answer isn't equal to 12.", None),
        ("I do not think it is 12.", None),
        ("12 is wrong.", None),
        ("10\u00b2", 10),
        ("42\u00bd", None),
        ("\u0664\u0662\u00bd\u2167", None),
        ("\u216742", None),
        ("42 \u00bd", 42),
        ("", None),
        ("no number", None),
    ],
)
def test_last_number(text, number):
    assert last_number(text) == number


@pytest.mark.parametrize(
    ("options", "completion", "answer", "value"),
    [
        ({}, "so it is 18", "18", 1.0),
        ({}, "so it is 18.0", 18, 1.0),
        ({}, "so it is 19", "18", 0.0),
        ({}, "18 or 19", "18", 0.0),
        ({}, "-18", "18", 0.0),
        ({}, "12345678901234567890", "12345678901234567891", 0.0),
        ({}, "0.3", 0.3, 1.0),
        ({}, "0.31", "0.3", 0.0),
        ({"tolerance": 0.01}, "0.31", "0.3", 1.0),
        ({"tolerance": 0.01}, "0.311", "0.3", 0.0),
        ({"relative_tolerance": 0.1}, "110", "100", 1.0),
        ({"relative_tolerance": 0.1}, "111", "100", 0.0),
        ({"relative_tolerance": 0.1}, "-110", "-100", 1.0),
        ({"relative_tolerance": 0.1}, "0.01", "0", 0.0),
        ({"tolerance": 2, "relative_tolerance": 0.01}, "102", "100", 1.0),
        ({"reference_pattern": r"#### (.+)"}, "18", "3 + 15 = 18 <<3>>\n#### 18", 1.0),
        ({"reference_pattern": r"#### (.+)"}, "1000", "#### 1,000", 1.0),
        ({"pattern": r"Answer: (\S+)"}, "Answer: 18 (of 20)", "18", 1.0),
        ({"pattern": r"\d+ eggs"}, "18 eggs for 20 dollars", "18", 1.0),
        ({}, "<think>19</think>18", "18", 1.0),
        ({}, "1e999", "1", 0.0),
        ({}, "9" * 9000, "9" * 9000, 1.0),
    ],
)
def test_verdict(options, completion, answer, value):
    score = load_grader("n", {"use": "numeric", **options}).call(completion=completion, task=task(answer))
    assert score.value == value
    assert score.status is Status.OK


@pytest.mark.parametrize(
    ("options", "completion", "status"),
    [
        ({}, "", Status.NO_ANSWER),
        ({}, "<think>18", Status.NO_ANSWER),
        ({"pattern": r"Answer: (\S+)"}, "18", Status.NO_ANSWER),
        ({}, "eighteen", Status.INVALID_OUTPUT),
        ({"pattern": r"Answer: (\S+)"}, "Answer: eighteen", Status.INVALID_OUTPUT),
    ],
)
def test_the_models_fault_scores_zero(options, completion, status):
    score = load_grader("n", {"use": "numeric", **options}).call(completion=completion, task=task("18"))
    assert (score.value, score.status) == (0.0, status)


def test_a_task_without_a_reference_is_skipped():
    assert Numeric().grade("18", task(None)) is None


@pytest.mark.parametrize("answer", ["none", float("nan"), float("inf"), ""])
def test_a_reference_that_is_no_number_is_an_error(answer):
    with pytest.raises(ValueError, match="reference of task t holds no number"):
        Numeric().grade("18", task(answer))


def test_a_missing_column_is_an_error_that_names_the_columns():
    with pytest.raises(LookupError, match="no column 'result'; its columns are answer"):
        Numeric(column="result").grade("18", task("18"))


@pytest.mark.parametrize("text", ["1" * 100_000, "1," * 50_000, "1,111" * 20_000, "-" * 100_000, "1/" * 50_000])
def test_hostile_text_takes_no_time(text):
    start = time.process_time()
    last_number(text)
    assert time.process_time() - start < 0.5
