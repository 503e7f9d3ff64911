"""Calls in a style, and the unwrapping of results, case by case."""

import functools
import math

import numpy
import pytest

from rft.grading import Score, Status
from rft.grading.foreign.styles import adapt, results
from rft.grading.normalise import to_score, to_scores


def function(signature, body="0.0"):
    """A function with the given parameters; only the tests' own texts come here."""
    names = {}
    exec(f"def f({signature}):\n    return {body}", names)
    return names["f"]


def test_a_style_calls_groups_or_single_completions():
    adapted = adapt(function("completions"), "trl")
    assert (adapted.per_group, adapted.takes) == (True, ("completions", "task", "rollouts"))
    adapted = adapt(function("solution_str"), "verl")
    assert (adapted.per_group, adapted.takes) == (False, ("completion", "task"))


def test_an_option_that_is_set_is_not_overwritten():
    adapted = adapt(functools.partial(function("solution_str, ground_truth", "ground_truth"), ground_truth=2), "verl")

    class Task:
        id, item = "t", {"ground_truth": 1}

    assert adapted.call(completion="", task=Task) == 2


@pytest.mark.parametrize(
    ("result", "value"),
    [
        (1, 1.0),
        (True, 1.0),
        (numpy.float32(0.5), 0.5),
        ({"score": 0.5}, 0.5),
        ({"reward": 0.5, "score": 9}, 0.5),
        ({"aggregate_reward_score": 0.5, "id": "1"}, 0.5),
        ([{"aggregate_reward_score": 0.5}], 0.5),
        ({"score": True, "acc": 1}, 1.0),
        ({"rewards": [0.5]}, 0.5),
        ((0.5, {"why": "so"}), 0.5),
        ((0.5, "so"), 0.5),
        ((0.5, None), 0.5),
        ({"score": numpy.array(0.5)}, 0.5),
    ],
    ids=repr,
)
def test_one_result(result, value):
    assert to_score(results.single(result)).value == value


@pytest.mark.parametrize(
    "result",
    [
        "True",
        "0.5",
        {"score": "0.5"},
        {"score": math.nan},
        {"score": math.inf, "reason": "so"},
        {"acc": 1.0},
        {},
        [],
        [0.5, 0.5],
        (0.5, 0.5),
        {"score": {"score": "True"}},
        type,
    ],
    ids=repr,
)
def test_nonsense_is_an_error_however_it_is_wrapped(result):
    score = to_score(results.single(result))
    assert (score.value, score.status) == (None, Status.GRADER_ERROR)


def test_none_inside_declines():
    assert to_score(results.single({"score": None})).status is Status.SKIPPED


@pytest.mark.parametrize(
    "result",
    [
        [0.0, 1.0],
        (0, 1),
        numpy.array([0.0, 1.0]),
        {"rewards": numpy.array([0.0, 1.0]), "scores": [5, 5]},
        [{"score": 0.0}, {"score": 1.0}],
        ([False, True], {"logs": 1}),
    ],
    ids=repr,
)
def test_a_groups_result(result):
    assert [score.value for score in to_scores(results.group(result), 2)] == [0.0, 1.0]


@pytest.mark.parametrize(
    "result", [[1.0], [1.0, 1.0, 1.0], 1.0, "ab", {"a": 1, "b": 2}, numpy.array([[1.0], [1.0]])], ids=repr
)
def test_a_group_of_the_wrong_length_is_an_error(result):
    assert [score.status for score in to_scores(results.group(result), 2)] == [Status.GRADER_ERROR] * 2


def test_within_a_group_each_stands_for_itself():
    first, second, third = to_scores(results.group([0.5, None, "1"]), 3)
    assert (first.value, second.status, third.status) == (0.5, Status.SKIPPED, Status.GRADER_ERROR)


@pytest.mark.parametrize(("given", "value"), [(3.0, 1.0), (-3, -1.0), (0.5, 0.5), (numpy.float32(2), 1.0)])
def test_googles_are_clipped(given, value):
    assert results.clipped(given) == value


def test_clipping_hides_no_nonsense():
    for given in (math.nan, math.inf, "2", None):
        assert results.clipped(given) is given


def test_verifiers_add_up_what_is_keyed():
    assert results.keyed_sum({"a": 0.5, "b": -0.25}) == 0.25
    assert results.keyed_sum({"a": "0.5"}) == {"a": "0.5"}
    assert results.keyed_sum({}) == {}
    assert results.keyed_sum(Score(value=0.5)) == Score(value=0.5)
