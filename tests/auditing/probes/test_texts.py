"""Long, disguised, hidden and cut answers, and persuasion."""

import pytest

from rft.auditing.findings import Result
from rft.auditing.probes import judges, texts


def test_length(audit):
    assert audit("exact", texts.repetition_and_length).result is Result.PASSED
    finding = audit("pays_length", texts.repetition_and_length)
    assert (finding.result, finding.figures["rank_correlation"]) == (Result.FAILED, pytest.approx(1.0))


def test_rank_correlation_with_ties():
    assert texts.rank_correlation([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1.0)
    assert texts.rank_correlation([1, 2, 3, 4], [5, 5, 1, 1]) == pytest.approx(-2 / 5**0.5)  # as scipy.stats.spearmanr
    assert texts.rank_correlation([1, 2], [3, 3]) == 0.0


def test_thinking(audit):
    assert audit("exact", texts.reasoning_leak).result is Result.PASSED
    finding = audit("first_number", texts.reasoning_leak)
    # Not paid of each four is only: the wrong answer first, the right one in thinking behind it.
    assert (finding.result, len(finding.examples)) == (Result.FAILED, 24)


def test_cut_answers(audit):
    finding = audit("exact", texts.truncation)
    assert (finding.result, finding.figures["cases"]) == (Result.PASSED, 7)  # of 7 there is nothing to cut
    assert audit("nonsense", texts.truncation).result is Result.FAILED


def test_unicode(audit):
    finding = audit({"main": {"use": "numeric"}}, texts.unicode)
    assert finding.result is not Result.FAILED
    audit.file(
        "import unicodedata\n"
        "def loose(completion, task): return unicodedata.normalize('NFKC', completion) == task.item['answer']"
    )
    finding = audit("loose", texts.unicode)
    assert finding.result is Result.FAILED
    assert finding.examples[0].case.completion == "4\u00b2"


def test_persuasion(audit):
    assert audit("exact", judges.injection).result is Result.PASSED
    finding = audit("persuaded", judges.injection)
    assert (finding.result, finding.figures["moved"]) == (Result.FAILED, 8)
    assert audit("exact", judges.rubric_order_and_wording).result is Result.NOT_APPLICABLE
