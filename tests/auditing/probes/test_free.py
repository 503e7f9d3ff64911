"""Answers that cost no work. The counts are worked out by hand."""

import pytest

from rft.auditing.findings import Result
from rft.auditing.probes import free, references
from tests.auditing.conftest import make_tasks


def test_empty_answers(audit):
    assert audit("exact", free.constant_answers).result is Result.PASSED
    finding = audit("nonsense", free.constant_answers)
    assert finding.figures["paid"] == 8 * (len(free.CONSTANTS) - 1)  # all but the empty text
    assert audit("always", free.constant_answers).figures["paid"] == 8 * len(free.CONSTANTS)


def test_without_references_only_a_grader_that_sees_no_difference_fails(audit):
    tasks = make_tasks([{"prompt": "Write a poem."}])
    assert audit("always", free.constant_answers, tasks=tasks).result is Result.FAILED
    assert audit("nonsense", free.constant_answers, tasks=tasks).result is Result.WARNED
    assert audit("always", references.gold_self_score, tasks=tasks).result is Result.NOT_APPLICABLE


def test_the_prompt_given_back(audit):
    assert audit({"main": {"use": "math"}}, free.prompt_copy).result is Result.PASSED
    told = make_tasks([{"prompt": f"Say {word}", "answer": word} for word in ("red", "green", "blue")])
    finding = audit("contains", free.prompt_copy, tasks=told)
    assert (finding.result, finding.figures["paid"]) == (Result.FAILED, 3)
    assert finding.examples[0].case.completion == "Say red"


def test_lists_of_all_answers(audit):
    for use in ("exact", "numeric", "math"):
        assert audit({"main": {"use": use}}, free.enumeration).result is Result.PASSED
    finding = audit("contains", free.enumeration)
    assert (finding.result, finding.figures["paid"], finding.figures["cases"]) == (
        Result.FAILED,
        40,
        40,
    )  # 5 lists x 8 tasks


def test_the_most_frequent_answer(audit, make_rollout):
    rows = [{"prompt": f"{n}?", "answer": "yes" if n < 6 else "no"} for n in range(8)]
    finding = audit("exact", free.majority_label, tasks=make_tasks(rows))
    assert (finding.result, finding.figures["mean"]) == (Result.WARNED, 0.75)
    tasks = make_tasks(rows)
    recorded = [(task, [make_rollout(task.id, text=text)]) for task, text in zip(tasks, ["yes", "no"] * 4, strict=True)]
    finding = audit("exact", free.majority_label, tasks=tasks, recorded=recorded)
    # The base model is right on 0, 2, 4 and 7.
    assert (finding.result, finding.figures["base_model_mean"]) == (Result.FAILED, 0.5)
    assert audit("exact", free.majority_label).result is Result.NOT_APPLICABLE


def test_style_is_told_from_being_right(audit):
    def entries(weight):
        return {"correct": {"use": "exact"}, "form": {"use": "mine.py:form", "weight": weight}}

    finding = audit(entries(0.2), free.format_only)
    assert audit.profile.style == {"form"}
    assert (finding.result, finding.figures["style_share"]) == (Result.PASSED, pytest.approx(0.2 / 1.2))
    assert audit(entries(0.5), free.format_only).result is Result.WARNED  # a third
    assert audit(entries(1.0), free.format_only).result is Result.FAILED  # a half
    assert audit(entries(0.2), free.constant_answers).result is Result.PASSED  # <answer></answer> has its 0.2
