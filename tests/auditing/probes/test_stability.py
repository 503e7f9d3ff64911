"""The same input gets the same score, malformed input gets one at all, and nothing takes for ever."""

import pytest

from rft.auditing.findings import Result
from rft.auditing.probes import cost, robustness, stability
from tests.auditing.conftest import make_tasks


@pytest.mark.usefixtures("in_workers")
@pytest.mark.parametrize(
    ("grader", "result"), [("exact", Result.PASSED), ("dice", Result.FAILED), ("counts", Result.FAILED)]
)
def test_the_same_score_each_time(audit, grader, result):
    finding = audit(grader, stability.determinism)
    assert finding.result is result
    assert finding.figures["unstable"] == ([] if result is Result.PASSED else ["main"])
    if grader == "dice":
        one, other = finding.examples[:2]
        assert one.case == other.case
        assert one.grade.reward != other.grade.reward


@pytest.mark.usefixtures("in_workers")
def test_a_row_that_changes_the_next(audit):
    assert audit("exact", stability.row_isolation).result is Result.PASSED
    assert audit("leaves_a_mark", stability.row_isolation).result is Result.FAILED


@pytest.mark.usefixtures("in_workers")
def test_malformed_completions_and_results(audit):
    malformed, scores = audit("raises", robustness.malformed_completions, robustness.finite_scores)
    assert malformed.result is Result.WARNED
    assert malformed.figures["grader_faults"] == malformed.figures["cases"] == 48
    assert scores.result is Result.PASSED  # on ordinary answers, plain numbers, it does not fail
    scores = audit("nan", robustness.finite_scores)
    assert scores.result is Result.FAILED
    assert "nan" in scores.examples[0].grade.scores["main"].reason
    assert all(
        one.result is Result.PASSED
        for one in audit("exact", robustness.malformed_completions, robustness.finite_scores)
    )


@pytest.fixture
def patient(monkeypatch):
    """On a busy machine the event loop may be late though no grader holds it."""
    monkeypatch.setattr(cost, "STALL_S", 60.0)


@pytest.mark.e2e  # real limits: too slow for a unit test
@pytest.mark.usefixtures("in_workers")
def test_a_cost_bomb_costs_its_deadline(audit, patient):
    entry = {"use": "mine.py:slow_on_powers", "timeout_s": 2.0}
    finding = audit({"main": entry}, cost.cost_bombs)
    assert (finding.result, finding.figures["late"]) == (
        Result.FAILED,
        2,
    )  # bare, and in the format, which is bare as well
    assert finding.examples[0].case.completion == "9^9^9^9"
    finding = audit("exact", cost.cost_bombs)
    assert finding.result is Result.PASSED


@pytest.mark.e2e  # real limits: too slow for a unit test
@pytest.mark.usefixtures("in_workers")
def test_a_grader_in_this_process_must_not_hold_the_event_loop(audit):
    finding = audit("blocks", cost.cost_bombs)
    assert finding.result is Result.FAILED
    assert "blocked the event loop" in finding.message


@pytest.mark.usefixtures("in_workers")
def test_multiple_choice_is_quick_on_brackets(audit, patient):
    rows = [{"prompt": "?", "choices": ["Rome", "Paris"], "answer": letter} for letter in "AB"]
    finding = audit({"main": {"use": "multiple_choice"}}, cost.cost_bombs, tasks=make_tasks(rows))
    assert finding.result is Result.PASSED


@pytest.mark.usefixtures("in_workers")
def test_latency(audit):
    finding = audit("exact", cost.latency, completions_per_step=20)
    assert finding.result is Result.PASSED
    latency = finding.figures["latency_s"]["main"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    assert finding.figures["step_s"] == pytest.approx(20 / finding.figures["completions_per_s"])
