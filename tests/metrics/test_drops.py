"""Rollouts without a reward, by cause."""

from collections.abc import Callable

from rft.metrics.drops import count_drops
from rft.types import Grade, GradedGroup, Score, Status


def test_drops_are_counted_by_their_first_cause(make_group: Callable[..., GradedGroup]) -> None:
    good = Score(value=1.0)
    error = Score(value=None, status=Status.GRADER_ERROR)
    late = Score(value=None, status=Status.TIMEOUT)
    group = make_group([1.0, 1.0, 1.0, 1.0, 1.0])
    grades = (
        Grade(scores={"a": good, "b": good}, reward=2.0),
        Grade(scores={"a": error, "b": late}, reward=None),
        Grade(scores={"a": good, "b": late}, reward=None),
        Grade(scores={"a": error, "b": good}, reward=None),
        # A grader of weight 0 failed: there is a reward, so nothing is dropped.
        Grade(scores={"a": good, "b": error}, reward=1.0),
    )
    groups = [GradedGroup(task=group.task, rollouts=group.rollouts, grades=grades)]
    assert count_drops(groups) == {"a: grader error": 2, "b: timeout": 1}
    assert count_drops([]) == {}


def test_a_tool_that_failed_is_named_among_the_drops(make_group: Callable[..., GradedGroup]) -> None:
    gone = Score(value=None, status=Status.ENVIRONMENT_ERROR, reason="tool search: ConnectionError: refused")
    skipped = Score(value=None, status=Status.SKIPPED)
    group = make_group([1.0, 1.0])
    grades = (
        Grade(scores={"a": skipped, "environment": gone}, reward=None),
        Grade(scores={"a": Score(value=1.0), "environment": gone}, reward=None),
    )
    groups = [GradedGroup(task=group.task, rollouts=group.rollouts, grades=grades)]
    assert count_drops(groups) == {"environment: environment error (tool search)": 2}
