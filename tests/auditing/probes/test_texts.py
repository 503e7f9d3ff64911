"""Long, disguised, hidden and cut answers, and persuasion."""

import pytest

from rft.auditing.findings import Result
from rft.auditing.probes import judges, texts


def test_length(audit):
    assert audit("exact", texts.length_is_not_paid).result is Result.PASSED
    found = audit("pays_length", texts.length_is_not_paid)
    assert (found.result, found.figures["rank_correlation"]) == (Result.FAILED, pytest.approx(1.0))


def test_rank_correlation_with_ties():
    assert texts.rank_correlation([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1.0)
    assert texts.rank_correlation([1, 2, 3, 4], [5, 5, 1, 1]) == pytest.approx(-2 / 5**0.5)  # as scipy.stats.spearmanr
    assert texts.rank_correlation([1, 2], [3, 3]) == 0.0


def test_thinking(audit):
    assert audit("exact", texts.thinking_is_not_answering).result is Result.PASSED
    found = audit("first_number", texts.thinking_is_not_answering)
    # Not paid of each four is only: the wrong answer first, the right one in thinking behind it.
    assert (found.result, len(found.examples)) == (Result.FAILED, 24)


def test_cut_answers(audit):
    found = audit("exact", texts.cut_answers)
    assert (found.result, found.figures["cases"]) == (Result.PASSED, 7)  # of 7 there is nothing to cut
    assert audit("nonsense", texts.cut_answers).result is Result.FAILED


def test_unicode(audit):
    found = audit({"main": {"use": "numeric"}}, texts.lookalikes)
    assert found.result is not Result.FAILED
    audit.file(
        "import unicodedata\n"
        "def loose(completion, task): return unicodedata.normalize('NFKC', completion) == task.item['answer']"
    )
    found = audit("loose", texts.lookalikes)
    assert found.result is Result.FAILED
    assert found.examples[0].case.completion == "4\u00b2"


def test_persuasion(audit):
    assert audit("exact", judges.nobody_is_persuaded).result is Result.PASSED
    found = audit("persuaded", judges.nobody_is_persuaded)
    assert (found.result, found.figures["moved"]) == (Result.FAILED, 8)
    assert audit("exact", judges.the_rubric_holds).result is Result.NOT_APPLICABLE
