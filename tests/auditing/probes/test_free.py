"""Answers that cost no work. The counts are worked out by hand."""

import pytest

from rft.auditing.findings import Result
from rft.auditing.probes import free, references
from tests.auditing.conftest import make_tasks


def test_empty_answers(audit):
    assert audit("exact", free.constants_are_not_paid).result is Result.PASSED
    found = audit("nonsense", free.constants_are_not_paid)
    assert found.figures["paid"] == 8 * (len(free.CONSTANTS) - 1)  # all but the empty text
    assert audit("always", free.constants_are_not_paid).figures["paid"] == 8 * len(free.CONSTANTS)


def test_without_references_only_a_grader_that_sees_no_difference_fails(audit):
    tasks = make_tasks([{"prompt": "Write a poem."}])
    assert audit("always", free.constants_are_not_paid, tasks=tasks).result is Result.FAILED
    assert audit("nonsense", free.constants_are_not_paid, tasks=tasks).result is Result.WARNED
    assert audit("always", references.gold_is_paid, tasks=tasks).result is Result.NOT_APPLICABLE


def test_the_prompt_given_back(audit):
    assert audit({"main": {"use": "math"}}, free.the_prompt_is_not_paid).result is Result.PASSED
    told = make_tasks([{"prompt": f"Say {word}", "answer": word} for word in ("red", "green", "blue")])
    found = audit("contains", free.the_prompt_is_not_paid, tasks=told)
    assert (found.result, found.figures["paid"]) == (Result.FAILED, 3)
    assert found.examples[0].case.completion == "Say red"


def test_lists_of_all_answers(audit):
    for use in ("exact", "numeric", "math"):
        assert audit({"main": {"use": use}}, free.everything_is_not_paid).result is Result.PASSED
    found = audit("contains", free.everything_is_not_paid)
    assert (found.result, found.figures["paid"], found.figures["cases"]) == (Result.FAILED, 40, 40)  # 5 lists x 8 tasks


def test_the_most_frequent_answer(audit, make_rollout):
    rows = [{"prompt": f"{n}?", "answer": "yes" if n < 6 else "no"} for n in range(8)]
    found = audit("exact", free.one_answer_to_all, tasks=make_tasks(rows))
    assert (found.result, found.figures["mean"]) == (Result.WARNED, 0.75)
    tasks = make_tasks(rows)
    recorded = [(task, [make_rollout(task.id, text=text)]) for task, text in zip(tasks, ["yes", "no"] * 4, strict=True)]
    found = audit("exact", free.one_answer_to_all, tasks=tasks, recorded=recorded)
    # The base model is right on 0, 2, 4 and 7.
    assert (found.result, found.figures["base_model_mean"]) == (Result.FAILED, 0.5)
    assert audit("exact", free.one_answer_to_all).result is Result.NOT_APPLICABLE


def test_style_is_told_from_being_right(audit):
    def entries(weight):
        return {"correct": {"use": "exact"}, "form": {"use": "mine.py:form", "weight": weight}}

    found = audit(entries(0.2), free.the_form_alone_is_not_paid)
    assert audit.subject.style == {"form"}
    assert (found.result, found.figures["style_share"]) == (Result.PASSED, pytest.approx(0.2 / 1.2))
    assert audit(entries(0.5), free.the_form_alone_is_not_paid).result is Result.WARNED  # a third
    assert audit(entries(1.0), free.the_form_alone_is_not_paid).result is Result.FAILED  # a half
    assert audit(entries(0.2), free.constants_are_not_paid).result is Result.PASSED  # <answer></answer> has its 0.2
