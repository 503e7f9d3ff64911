"""Right answers must be paid, wrong ones must not. The counts are worked out by hand."""

import pytest

from rft.auditing.findings import Result
from rft.auditing.probes import free, references
from tests.auditing.conftest import make_tasks, sums


@pytest.mark.usefixtures("in_workers")
def test_right_answers_are_paid(audit):
    finding = audit("exact", references.gold_self_score)
    assert (finding.result, finding.figures["format"], finding.figures["mean"]) == (Result.WARNED, "bare", 1.0)
    assert finding.figures["by_format"]["boxed"] == 0.0
    assert "boxed" in finding.message
    finding = audit({"main": {"use": "numeric"}}, references.gold_self_score)
    assert (finding.result, set(finding.figures["by_format"].values())) == (Result.PASSED, {1.0})


def test_a_grader_that_underpays_right_answers(audit):
    # No text is longer than 80 characters, so length adds at most 0.02 to the half for the answer.
    finding = audit("pays_length", references.gold_self_score)
    assert finding.result is Result.FAILED
    assert 0.5 < finding.figures["mean"] < 0.53
    assert len(finding.examples) == 8


def test_a_format_of_the_graders_own_is_no_fault(audit):
    assert audit("tagged", references.gold_self_score).result is Result.FAILED
    template = "<plan></plan> <final>{answer}</final>"
    finding = audit("tagged", references.gold_self_score, template=template)
    assert (finding.figures["format"], finding.figures["mean"]) == ("yours", 1.0)


@pytest.mark.parametrize(("grader", "paid"), [("exact", 0), ("nonsense", 56), ("contains", 32)])
def test_wrong_answers(audit, grader, paid):
    """Of each of 8 tasks: another's answer, one more, one less, and four that contain the answer: the opposite, ten
    times as much, a hedge, and the answer taken back."""
    finding = audit(grader, references.wrong_gold)
    assert (finding.figures["cases"], finding.figures["paid"]) == (56, paid)
    assert finding.result is (Result.FAILED if paid else Result.PASSED)
    if grader == "contains":
        assert finding.examples[0].case.completion == "-7"


def test_a_grader_of_prefixes_pays_what_begins_with_the_answer(audit):
    finding = audit("prefix", references.wrong_gold)
    # Of each of 8 tasks: ten times as much, a hedge, the answer taken back.
    assert (finding.result, finding.figures["paid"]) == (Result.FAILED, 24)
    cities = make_tasks([{"prompt": f"{n}?", "answer": city} for n, city in enumerate(["Paris", "Rome", "Oslo"])])
    finding = audit("prefix", references.wrong_gold, tasks=cities)
    assert (finding.result, finding.figures["paid"]) == (Result.FAILED, 6)


def test_partial_credit_for_nearly_right_answers_is_a_warning(audit):
    rows = [{"prompt": f"{n}?", "answer": {"a": n, "b": 0, "c": 0, "d": 0}} for n in range(4)]
    finding = audit({"main": {"use": "json_match"}}, references.wrong_gold, tasks=make_tasks(rows))
    assert finding.result is Result.FAILED  # three of four fields are the same in every row
    rows = [{"prompt": f"{n}?", "answer": {"a": n, "b": n, "c": n, "d": 0}} for n in range(4)]
    finding = audit({"main": {"use": "json_match"}}, references.wrong_gold, tasks=make_tasks(rows))
    assert (finding.result, finding.figures["mean"], finding.figures["paid_in_full"]) == (Result.WARNED, 0.25, 0)


def test_rows_without_a_reference(audit):
    assert audit({"main": {"use": "numeric"}}, references.missing_reference).result is Result.PASSED
    finding = audit("none_pays", references.missing_reference)
    # 5 tasks x 7 answers where it is None, and as many where it is missing; an empty one equals the empty answer.
    # Two of each seven spell None out, which alone would be a warning.
    assert (finding.result, finding.figures["paid"], len(finding.examples)) == (Result.FAILED, 75, 50)


def test_a_reference_that_becomes_the_text_null(audit):
    template = {"type": "string_check", "name": "s", "operation": "eq"}
    entry = {"openai": {**template, "input": "{{ sample.output_text }}", "reference": "{{ item.answer }}"}}
    finding = audit({"main": entry}, references.missing_reference)
    assert (finding.result, {one.case.completion for one in finding.examples}) == (Result.WARNED, {"null", ""})
    tasks = [*sums(), *make_tasks([{"prompt": "?", "answer": None}])]
    finding = audit({"main": entry}, references.missing_reference, tasks=tasks)  # now there is such a row
    assert (finding.result, {one.case.completion for one in finding.examples}) == (Result.FAILED, {"null"})


def test_a_little_for_anything_is_a_warning_where_there_is_partial_credit(audit):
    finding = audit("similar", free.constant_answers)
    assert (finding.result, finding.figures["paid"]) == (Result.WARNED, 8 * (len(free.CONSTANTS) - 1))
    assert audit("nonsense", free.constant_answers).result is Result.FAILED


def test_words_of_a_worked_solution_are_no_parts_of_the_answer(audit):
    rows = [{"prompt": "?", "answer": "It is 3 + 4, so 3 + 4 = 7, and 7 it is.\n#### 7"}]
    finding = audit({"main": {"use": "numeric"}}, references.monotonicity, tasks=make_tasks(rows))
    assert finding.result is Result.NOT_APPLICABLE
