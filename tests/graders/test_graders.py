"""The other built-in graders, with values worked out by hand."""

import inspect
import sys
import warnings

import pytest

from graders.exact import Exact
from graders.length import Length
from graders.pattern import MAX_CHARS
from graders.reasoning_gym_score import HARMLESS, REFUSED, ReasoningGym
from rft.grading import Rollout, Status, Task, load_grader
from rft.types import Policy, StopReason


def task(**item):
    return Task(id="t", messages=({"role": "user", "content": "?"},), item=item, split="train")


def rollout(tokens):
    return Rollout(
        task_id="t",
        index=0,
        prompt_ids=(1,),
        completion_ids=(1,) * tokens,
        logprobs=(0.0,) * tokens,
        text="",
        stop=StopReason.STOP,
        policy=Policy(version=0, fingerprint="f"),
    )


@pytest.mark.parametrize(
    ("options", "completion", "answer", "value"),
    [
        ({}, "Paris", "Paris", 1.0),
        ({}, " Paris\n", "Paris ", 1.0),
        ({}, "paris", "Paris", 0.0),
        ({}, "In Paris", "Paris", 0.0),
        ({"ignore_case": True}, "PARIS", "Paris", 1.0),
        ({}, "<think>Rome</think>Paris", "Paris", 1.0),
        ({}, "4", 4, 1.0),
        ({}, "Caf\u00e9", "Cafe\u0301", 1.0),
        ({}, "P\u0430ris", "Paris", 0.0),
    ],
)
def test_exact(options, completion, answer, value):
    score = Exact(**options).grade(completion, task(answer=answer))
    assert (score.value, score.status) == (value, Status.OK)


def test_exact_without_an_answer_or_a_reference():
    score = Exact().grade("<think>Paris", task(answer="Paris"))
    assert (score.value, score.status) == (0.0, Status.NO_ANSWER)
    assert Exact().grade("Paris", task(answer=None)) is None
    with pytest.raises(ValueError, match="empty text"):
        Exact().grade("Paris", task(answer=" "))


@pytest.mark.parametrize(
    ("options", "completion", "value", "status"),
    [
        ({"pattern": r"\d+"}, "42", 1.0, Status.OK),
        ({"pattern": r"\d+"}, "42!", 0.0, Status.OK),
        ({"pattern": r"\d+", "mode": "search"}, "42!", 1.0, Status.OK),
        ({"pattern": r"<think>.+</think>.+"}, "<think>a\nb</think>c", 0.0, Status.OK),
        ({"pattern": r"(?s)<think>.+</think>.+"}, "<think>a\nb</think>c", 1.0, Status.OK),
        ({"pattern": r"is (\w+)", "mode": "search", "column": "answer"}, "it is Paris.", 1.0, Status.OK),
        ({"pattern": r"is (\w+)", "mode": "search", "column": "answer"}, "it is Rome.", 0.0, Status.OK),
        ({"pattern": r"is (\w+)", "mode": "search", "column": "answer"}, "Paris", 0.0, Status.NO_ANSWER),
        (
            {"pattern": r"is (\w+)", "mode": "search", "column": "answer"},
            "<think>is Paris</think>is Rome",
            0.0,
            Status.OK,
        ),
        ({"pattern": r"is (\w+)", "mode": "search", "column": "answer"}, "<think>is Paris", 0.0, Status.NO_ANSWER),
        ({"pattern": r"(\d+)?\w+", "column": "answer"}, "Paris", 0.0, Status.NO_ANSWER),
        ({"pattern": r"(?s).*"}, "x" * (MAX_CHARS + 1), 0.0, Status.INVALID_OUTPUT),
    ],
)
def test_pattern(options, completion, value, status):
    score = load_grader("f", {"use": "format", **options}).call(completion=completion, task=task(answer="Paris"))
    assert (score.value, score.status) == (value, status)


def test_pattern_skips_a_task_without_a_reference():
    grader = load_grader("f", {"use": "pattern", "pattern": "(a)", "column": "answer"})
    assert grader.call(completion="a", task=task(answer=None)) is None


@pytest.mark.parametrize(
    ("tokens", "value"), [(0, 0.0), (100, 0.0), (101, -0.01), (150, -0.5), (200, -1.0), (999, -1.0)]
)
def test_length(tokens, value):
    score = Length(free_tokens=100, max_tokens=200).grade(rollout(tokens))
    assert score == pytest.approx(value)


def gym_task(family, answer, **metadata):
    return task(answer=answer, metadata={"source_dataset": family, **metadata})


@pytest.mark.parametrize(
    ("exact", "completion", "value", "status"),
    [
        (True, "292", 1.0, Status.OK),
        (True, "<think>1</think> 292", 1.0, Status.OK),
        (True, "It has <answer> 292 </answer> legs", 1.0, Status.OK),
        (True, "1292", 0.0, Status.OK),
        (False, "1292", 0.75, Status.OK),
        (False, "12", 0.0, Status.OK),
        (True, "", 0.0, Status.NO_ANSWER),
        (True, "<think>292", 0.0, Status.NO_ANSWER),
    ],
)
def test_reasoning_gym(exact, completion, value, status):
    score = ReasoningGym(exact=exact).grade(completion, gym_task("leg_counting", "292"))
    assert (score.value, score.status) == (value, status)


COUNTDOWN = gym_task("countdown", "94*4 - 61 - 6", numbers=[6, 61, 94, 4], target=309)


@pytest.mark.parametrize(
    ("completion", "value", "status"),
    [
        ("94*4 - 61 - 6", 1.0, Status.OK),
        ("4*94 - (6 + 61)", 1.0, Status.OK),
        ("94*4 - 61 + 6", 0.0, Status.OK),
        ("94**4**61**6", 0.0, Status.INVALID_OUTPUT),
        ("94* *4", 0.0, Status.INVALID_OUTPUT),
        ("__import__('os').getcwd()", 0.0, Status.INVALID_OUTPUT),
        ("input()", 0.0, Status.INVALID_OUTPUT),
    ],
)
def test_reasoning_gym_shows_its_scorer_no_code(completion, value, status):
    score = ReasoningGym().grade(completion, COUNTDOWN)
    assert (score.value, score.status) == (value, status)


def test_reasoning_gym_refuses_families_whose_scorer_runs_the_answer():
    with pytest.raises(ValueError, match="would run the model's answer as code"):
        ReasoningGym().grade("x", gym_task("simple_integration", "x"))


def test_reasoning_gym_tells_a_bad_answer_from_a_bad_task():
    bad_answer = ReasoningGym().grade("zzz", gym_task("prime_factorization", "2 \u00d7 3"))
    assert (bad_answer.value, bad_answer.status) == (0.0, Status.INVALID_OUTPUT)
    with pytest.raises(ValueError, match="zzz"):
        ReasoningGym().grade("zzz", gym_task("prime_factorization", "zzz"))


def test_every_scorer_that_evaluates_answers_is_known():
    from reasoning_gym.factory import DATASETS

    evaluating = {
        family
        for family, (dataset, _) in DATASETS.items()
        if any(word in inspect.getsource(dataset.score_answer) for word in ("eval(", "parse_expr(", "Fraction("))
    }
    evaluating -= {"number_sorting"}  # evaluates its own reference only
    assert evaluating <= HARMLESS.keys() | REFUSED


@pytest.mark.parametrize("family", sorted(HARMLESS))
def test_harmless_answers_include_the_references(family):
    import reasoning_gym

    for entry in reasoning_gym.create_dataset(family, size=5, seed=1):
        score = ReasoningGym().grade(entry["answer"], task(answer=entry["answer"], metadata=entry["metadata"]))
        assert (score.value, score.status) == (1.0, Status.OK)


def test_reasoning_gym_is_imported_before_the_workers_are_forked(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(ImportError, match="reasoning_gym"):
        ReasoningGym().warm_up()


def test_reasoning_gym_is_imported_without_warnings_about_its_syntax(monkeypatch, tmp_path):
    (tmp_path / "reasoning_gym.py").write_text("is_odd = 1 is 'odd'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "reasoning_gym", raising=False)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        ReasoningGym().warm_up()
    del sys.modules["reasoning_gym"]
    assert shown == []
