"""Telling a style by parameter names, and unwrapping results, case by case."""

import functools
import math

import numpy
import pytest

from rft.grading import Score, Status, per_group
from rft.grading.foreign.styles import STYLES, adapt, results
from rft.grading.normalise import to_score, to_scores


def function(signature, body="0.0"):
    """A function with the given parameters; only the tests' own texts come here."""
    names = {}
    exec(f"def f({signature}):\n    return {body}", names)
    return names["f"]


@pytest.mark.parametrize(
    ("signature", "style"),
    [
        ("completion", "rft"),
        ("completion, task", "rft"),
        ("completion, task, rollout, limit=3", "rft"),
        ("completion, rollout, **kwargs", "rft"),
        ("task", "rft"),
        ("", "rft"),
        ("completion='', limit=3", "rft"),
        ("completions", "trl"),
        ("completions, **kwargs", "trl"),
        ("completion_ids, **kwargs", "trl"),
        ("prompts, completions, task, **kwargs", "trl"),
        ("completions, item, sample=None", "trl"),
        ("completions, label", "trl"),
        ("solution_str, ground_truth", "verl"),
        ("data_source, solution_str, ground_truth, extra_info=None, **kwargs", "verl"),
        ("data_sources, solution_strs, ground_truths, extra_infos", "verl_batch"),
        ("model_output, ground_truth, timeout_score=0", "verl_pair"),
        ("predict_str, ground_truth, use_boxed=True", "verl_pair"),
        ("prompt, completions, prompt_ids, completion_ids, answer, **kwargs", "areal"),
        ("queries, prompts, labels", "openrlhf"),
        ("queries, prompts, labels, **kwargs", "openrlhf"),
        ("prompt, completion, answer", "verifiers"),
        ("completion, answer, difficulty", "verifiers"),
        ("completion, answer=None", "verifiers"),
        ("state", "verifiers"),
        ("completions, answers", "verifiers_group"),
        ("states", "verifiers_group"),
        ("trace", "verifiers_v1"),
        ("task, trace", "verifiers_v1"),
        ("messages, ground_truth=None, **kwargs", "eval_protocol"),
        ("event, context", "aws_lambda"),
        ("event, _context=None", "aws_lambda"),
        ("example, response", "google"),
        ("prompt, completion, example", "predibase"),
        ("state, target", "inspect_ai"),
        ("answer, entry", "reasoning_gym"),
        ("sample, item", "openai"),
        ("sample, item, strict=True", "openai"),
        ("text", "plain"),
        ("text, strict=True", "plain"),
    ],
)
def test_the_style_is_told_by_the_names(signature, style):
    assert adapt(function(signature), None).style == style


@pytest.mark.parametrize(
    ("signature", "candidates"),
    [
        ("completion, answer=4", ["rft", "verifiers"]),
        ("completion, **kwargs", ["rft", "verifiers"]),
        ("completions, task", ["rft", "trl"]),
    ],
)
def test_what_fits_more_than_one_style_is_asked_for(signature, candidates):
    with pytest.raises(ValueError, match="say whose function it is with style=") as caught:
        adapt(function(signature), None)
    named = str(caught.value).partition("one of: ")[2]
    assert [style for style in ("rft", *STYLES) if f"{style} (" in named or f"{style}," in named] == list(candidates)


@pytest.mark.parametrize(
    "signature",
    [
        "item, sample",
        "example, response, sample, item",
        "answer",
        "response",
        "item",
        "a, b",
        "rollouts",
        "strict=True",
    ],
)
def test_what_fits_no_style_is_refused_with_all_of_them(signature):
    with pytest.raises(ValueError, match="no style fits the parameters") as caught:
        adapt(function(signature), None)
    assert str(caught.value).endswith(f"one of: {', '.join(['rft', *STYLES])}")


def test_a_misspelt_parameter_is_told_from_a_foreign_one():
    with pytest.raises(ValueError, match="and not tsk \\(did you mean 'task'\\?\\); give it a default, or a value"):
        adapt(function("completion, tsk"), None)


HELPERS = """
def text_of(one):
    return one[0]["content"]

def through_a_helper(completions, **kwargs):
    return [float(text_of(one) == "4") for one in completions]

def by_itself(completions, **kwargs):
    return [float(one == "4") for one in completions]
"""


def test_messages_may_be_read_by_a_helper():
    names = {}
    exec(HELPERS, names)
    assert adapt(names["through_a_helper"], None).style == "trl_chat"
    assert adapt(names["by_itself"], None).style == "trl"


def test_every_style_that_names_tell_is_told_by_its_own_signature():
    for style in STYLES.values():
        if style.marks and style.name not in ("trl_chat", "verifiers_group"):
            signature = style.signature.partition("(")[2].rpartition(")")[0]
            parser = "plain" if "parser" in style.names else None
            assert adapt(function(signature), None, parser=parser).style == style.name


def test_one_call_a_group_takes_the_group():
    adapted = adapt(function("completions"), None)
    assert (adapted.per_group, adapted.takes) == (True, ("completions", "task", "rollouts"))
    adapted = adapt(function("solution_str"), None)
    assert (adapted.per_group, adapted.takes) == (False, ("completion", "task"))


def test_our_own_are_left_alone():
    own = per_group(function("completions, task"))
    adapted = adapt(own, "rft")
    assert (adapted.call, adapted.takes, adapted.per_group) == (own, ("completions", "task"), True)
    with pytest.raises(ValueError, match="parameter 'answer' cannot be filled"):
        adapt(function("completion, answer"), "rft")


def test_an_option_that_is_set_is_not_overwritten():
    adapted = adapt(functools.partial(function("solution_str, ground_truth", "ground_truth"), ground_truth=2), None)

    class Task:
        id, item = "t", {"ground_truth": 1}

    assert adapted.call(completion="", task=Task) == 2


def test_our_own_groups_are_told_by_their_mark():
    own = per_group(function("completions, limit"))
    assert adapt(functools.partial(own, limit=3), None).style == "rft"
    assert adapt(functools.partial(own, limit=3), None).per_group


@pytest.mark.parametrize(("target", "says"), [(3, "that is of type int"), (Score, "that is a class")])
def test_what_cannot_be_called_is_refused(target, says):
    with pytest.raises(ValueError, match=says):
        adapt(target, None)


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
    assert to_score(results.one(result)).value == value


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
    score = to_score(results.one(result))
    assert (score.value, score.status) == (None, Status.GRADER_ERROR)


def test_none_inside_declines():
    assert to_score(results.one({"score": None})).status is Status.SKIPPED


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
