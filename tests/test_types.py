"""The records refuse what cannot be, and say in numbers what they hold."""

import json
from array import array
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace

import pytest

from rft.turns import Author, Turn, turn_from_json, turn_to_json
from rft.types import GradedGroup, Policy, Rollout, Score, Status, StepReport, Task, TopTokens


def test_a_policy_has_a_name_of_its_own() -> None:
    assert Policy(version=3, fingerprint="9b2e51c07d44a1f0").name == "policy-v3-9b2e51c07d44a1f0"


def test_records_are_frozen(make_task: Callable[..., Task]) -> None:
    with pytest.raises(FrozenInstanceError):
        make_task().id = "other"  # type: ignore[misc]


def test_every_token_has_a_logprob(make_rollout: Callable[..., Rollout]) -> None:
    with pytest.raises(ValueError, match="rollout 4 of task t has 2 completion tokens but 1 log-probabilities"):
        make_rollout("t", 4, completion_ids=(7, 2), logprobs=(-0.5,))


def turn(author: Author, start: int, end: int) -> Turn:
    return Turn(author=author, start=start, end=end)


def test_turns_say_which_tokens_the_policy_sampled(make_rollout: Callable[..., Rollout]) -> None:
    completion = {"completion_ids": (7, 8, 9, 2), "logprobs": (-0.5, 0.0, 0.0, -0.1)}
    assert make_rollout(**completion).trained == (True,) * 4
    turns = (turn(Author.POLICY, 0, 1), turn(Author.ENVIRONMENT, 1, 3), turn(Author.POLICY, 3, 4))
    assert make_rollout(**completion, turns=turns).trained == (True, False, False, True)
    again = tuple(turn_from_json(json.loads(json.dumps(turn_to_json(each)))) for each in turns)
    assert again == turns


@pytest.mark.parametrize("spans", [[(0, 3)], [(1, 4)], [(0, 2), (1, 4)], [(0, 2), (3, 4)], [(0, 5), (5, 4)]])
def test_turns_divide_the_completion(make_rollout: Callable[..., Rollout], spans: list[tuple[int, int]]) -> None:
    turns = tuple(turn(Author.POLICY, start, end) for start, end in spans)
    with pytest.raises(ValueError, match="do not divide a completion of 4 tokens"):
        make_rollout(completion_ids=(7, 8, 9, 2), logprobs=(-0.5,) * 4, turns=turns)


@pytest.mark.parametrize("status", [Status.OK, Status.NO_ANSWER, Status.INVALID_OUTPUT])
def test_a_score_about_the_model_has_a_value(status: Status) -> None:
    assert Score(value=0.0, status=status).value == 0.0
    assert not status.is_grader_fault
    with pytest.raises(ValueError, match=f"status '{status}' cannot have the value None"):
        Score(value=None, status=status)


@pytest.mark.parametrize("status", [Status.SKIPPED, Status.GRADER_ERROR, Status.TIMEOUT])
def test_a_score_without_a_judgement_has_none(status: Status) -> None:
    assert Score(value=None, status=status).value is None
    assert status.is_grader_fault == (status is not Status.SKIPPED)
    with pytest.raises(ValueError, match=f"status '{status}' cannot have the value 0.0"):
        Score(value=0.0, status=status)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_score_is_finite(value: float) -> None:
    with pytest.raises(ValueError, match="a score must be finite, not"):
        Score(value=value)


def test_each_rollout_has_a_grade(make_group: Callable[..., GradedGroup]) -> None:
    group = make_group([1.0, 0.0], "seven")
    with pytest.raises(ValueError, match="group of task seven: 2 rollouts but 1 grades"):
        GradedGroup(task=group.task, rollouts=group.rollouts, grades=group.grades[:1])


def test_the_teacher_scores_every_token(make_group: Callable[..., GradedGroup]) -> None:
    group = make_group([1.0, 0.0], "seven")
    assert replace(group, teacher_logprobs=((-0.5, -1.0), None)).teacher_logprobs[1] is None
    for wrong in ((None, (-0.5,)), (None,)):
        with pytest.raises(ValueError, match=r"group of task seven: completions of \[2, 2\] tokens but \[None"):
            replace(group, teacher_logprobs=wrong)
    with pytest.raises(ValueError, match=r"completions of \[2, 2\] tokens but \[1, None\]"):
        replace(group, teacher_top=(TopTokens(2, array("i", [7, 2]), array("f", [-0.1, -2.5])), None))


@pytest.mark.parametrize(
    ("rewards", "informative"),
    [([1.0, 0.0], True), ([1.0, 1.0], False), ([1.0, None], False), ([None, None], False), ([0.0, None, 0.5], True)],
)
def test_a_group_is_informative_when_its_rewards_differ(
    make_group: Callable[..., GradedGroup], rewards: list[float | None], informative: bool
) -> None:
    group = make_group(rewards)
    assert group.rewards == rewards
    assert group.is_informative is informative


def test_a_report_needs_neither_drops_nor_times() -> None:
    report = StepReport(step=1, policy=Policy(version=1, fingerprint="f"), metrics={})
    assert (report.drops, report.seconds) == ({}, {})
