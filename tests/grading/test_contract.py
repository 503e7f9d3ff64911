"""What a grader may take, and what becomes of what it returns."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy
import pytest

from rft.grading import Score, Status, Task, final_answer, per_group, reference
from rft.grading.contract import is_per_group
from rft.grading.loading.binding import bind
from rft.grading.normalise import describe_error, to_score, to_scores


@pytest.mark.parametrize(
    ("result", "value"),
    [
        (1, 1.0),
        (0.25, 0.25),
        (-3, -3.0),
        (True, 1.0),
        (False, 0.0),
        (Decimal("0.5"), 0.5),
        (Fraction(1, 4), 0.25),
        (numpy.float32(0.5), 0.5),
        (numpy.int64(2), 2.0),
        (numpy.bool_(True), 1.0),
        (numpy.array(0.5), 0.5),
    ],
    ids=repr,
)
def test_numbers_are_scores(result, value):
    score = to_score(result)
    assert (score.value, score.status) == (value, Status.OK)
    assert type(score.value) is float


@pytest.mark.parametrize(
    "result",
    [
        math.nan,
        math.inf,
        -math.inf,
        10**400,
        "True",
        "1.0",
        "",
        b"1",
        1j,
        [1.0],
        (1.0,),
        {},
        {"score": 1.0},
        object(),
        float,
        Decimal("nan"),
        Decimal("snan"),
        numpy.float64("nan"),
        numpy.array([1.0]),
        numpy.array("1"),
    ],
    ids=lambda result: repr(result)[:20],
)
def test_nonsense_is_an_error_and_never_a_zero(result):
    score = to_score(result)
    assert (score.value, score.status) == (None, Status.GRADER_ERROR)
    assert f"returned the {type(result).__name__} " in score.reason
    assert "a grader returns a finite number, a bool, a Score, or None" in score.reason


def test_a_score_is_kept_and_none_declines():
    score = Score(value=0.0, status=Status.NO_ANSWER, reason="empty", answer="")
    assert to_score(score) == score
    assert type(to_score(Score(value=numpy.float32(0.5))).value) is float
    assert to_score(Score(value=None, status=Status.GRADER_ERROR, reason="judge is down")).reason == "judge is down"
    assert to_score(None) == Score(value=None, status=Status.SKIPPED)


def test_a_group_gets_a_score_for_each():
    assert [score.value for score in to_scores([1, 0.5, None], 3)] == [1.0, 0.5, None]
    assert [score.status for score in to_scores((1, "1"), 2)] == [Status.OK, Status.GRADER_ERROR]
    assert [score.status for score in to_scores(None, 2)] == [Status.SKIPPED] * 2


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ([1.0], "got 1 results for 2 completions"),
        ([1.0] * 3, "got 3 results for 2 completions"),
        ([], "got 0 results for 2 completions"),
        (1.0, "a grader of groups returns a list of 2"),
        ("10", "a grader of groups returns a list of 2"),
        ({0: 1.0, 1: 1.0}, "a grader of groups returns a list of 2"),
    ],
    ids=repr,
)
def test_nonsense_for_a_group_is_an_error_of_each(result, reason):
    scores = to_scores(result, 2)
    assert [score.status for score in scores] == [Status.GRADER_ERROR] * 2
    assert all(score.reason.endswith(reason) for score in scores)


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("4", "4"),
        (" 4\n", "4"),
        ("<think>2 + 2</think>\n4", "4"),
        ("2 + 2</think>4", "4"),
        ("<think>a</think>b<think>c</think>4", "4"),
        ("<think>2 + 2 = 4", ""),
        ("<think>a</think>4<think>or", ""),
        ("<think>a</think>", ""),
        ("", ""),
    ],
)
def test_final_answer(completion, answer):
    assert final_answer(completion) == answer


def test_reference():
    task = Task(id="t", messages=(), item={"answer": None, "level": 3}, split="train")
    assert reference(task, "answer") is None
    assert reference(task, "level") == 3
    with pytest.raises(LookupError, match="task t has no column 'anser'; its columns are answer, level"):
        reference(task, "anser")


@pytest.mark.parametrize(
    ("call", "per_group", "takes"),
    [
        (lambda: 0, False, ()),
        (lambda completion: 0, False, ("completion",)),
        (lambda task, completion: 0, False, ("task", "completion")),
        (lambda *, rollout, limit=3: 0, False, ("rollout",)),
        (lambda completion, *rest: 0, False, ("completion",)),
        (lambda completion, **rest: 0, False, ("completion", "task", "rollout")),
        (lambda completions, rollouts, task: 0, True, ("completions", "rollouts", "task")),
    ],
)
def test_arguments_are_bound_by_name(call, per_group, takes):
    assert bind(call, per_group=per_group) == (takes, [])


@pytest.mark.parametrize(
    ("call", "per_group", "problem"),
    [
        (lambda prompt: 0, False, "passes completion, task, rollout by name; give 'prompt' a default"),
        (lambda completions: 0, False, "to grade whole groups, mark the grader as per_group"),
        (lambda completion: 0, True, "passes completions, task, rollouts by name; the grader is marked as per_group"),
        (lambda completion, /: 0, False, "parameter 'completion' cannot be filled"),
    ],
)
def test_arguments_that_cannot_be_bound(call, per_group, problem):
    (found,) = bind(call, per_group=per_group)[1]
    assert problem in found


def test_per_group_marks_functions():
    @per_group
    def marked(completions):
        return completions

    assert is_per_group(marked)
    assert not is_per_group(len)


def test_an_error_is_described_with_the_line_in_the_graders_file():
    def grader():
        Decimal("x" * 1000)

    with pytest.raises(ArithmeticError) as caught:
        grader()
    line = grader.__code__.co_firstlineno + 1
    assert describe_error(caught.value, __file__).startswith("InvalidOperation: ")
    assert describe_error(caught.value, __file__).endswith(f"(tests/grading/test_contract.py:{line})")
