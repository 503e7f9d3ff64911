"""The fault budget, by hand: with a share of 10%, the third failure among the first 20 completions is one too many."""

import pytest

from rft.errors import GradeError
from rft.grading.budget import FaultBudget
from rft.types import Score, Status

OK = Score(value=0.0)
SKIPPED = Score(value=None, status=Status.SKIPPED)
NO_ANSWER = Score(value=0.0, status=Status.NO_ANSWER)
TIMEOUT = Score(value=None, status=Status.TIMEOUT)


def fault(reason):
    return Score(value=None, status=Status.GRADER_ERROR, reason=reason)


def first_stop(scores, *, max_share=0.1, window=200):
    """Return how many scores are counted when the budget runs out, or None."""
    budget = FaultBudget("g", max_share=max_share, window=window)
    for number, score in enumerate(scores, start=1):
        try:
            budget.count(f"t{number}", "4", score)
        except GradeError:
            return number
    return None


@pytest.mark.parametrize(
    ("scores", "options", "stop"),
    [
        ([OK, SKIPPED, NO_ANSWER] * 100, {}, None),
        ([fault("x")] * 3, {}, 3),
        ([fault("x")] * 2 + [OK] * 100, {}, None),
        ([TIMEOUT, OK, fault("x"), OK, TIMEOUT], {}, 5),
        ([OK] * 30 + [TIMEOUT] * 3, {}, None),
        ([OK] * 30 + [TIMEOUT] * 4, {}, 34),
        ([OK] * 1000 + [TIMEOUT] * 20, {}, None),
        ([OK] * 1000 + [TIMEOUT] * 21, {}, 1021),
        (([OK] * 9 + [TIMEOUT]) * 100, {}, None),
        (([OK] * 8 + [TIMEOUT]) * 100, {}, 27),
        ([OK] * 99 + [TIMEOUT], {"max_share": 0.0}, 100),
        ([TIMEOUT] * 500, {"max_share": 1.0}, None),
        ([OK] * 50 + [TIMEOUT] * 6, {"max_share": 0.5, "window": 10}, 56),
    ],
)
def test_when_it_runs_out(scores, options, stop):
    assert first_stop(scores, **options) == stop


def test_the_message_says_what_failed_where_and_what_to_do():
    budget = FaultBudget("correct", max_share=0.25, window=50)
    for task_id, reason in [("t1", "A"), ("t2", "B"), ("t3", "C"), ("t4", "D"), ("t5", "B")]:
        budget.count(task_id, f"completion of {task_id}", fault(reason))
    budget.count("t6", "", OK)
    with pytest.raises(GradeError) as caught:
        budget.count("t7", "a\n" + "b" * 1000, TIMEOUT)
    assert str(caught.value).splitlines() == [
        "grader 'correct' failed on 6 of the last 7 completions; at most 25% may fail",
        "  - task t7: timeout",
        f"    on the completion 'a\\n{'b' * 198}'",
        "  - task t5: B",
        "    on the completion 'completion of t5'",
        "  - task t4: D",
        "    on the completion 'completion of t4'",
        "fix the grader, or raise grading.max_fault_share",
    ]
