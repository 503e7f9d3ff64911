"""What tells that a grader is being gamed; the shares are counted by hand."""

import pytest

from rft.metrics.drift import DriftWatch, drift_metrics
from rft.types import Grade, GradedGroup, Policy, Score, Status, StepReport


@pytest.fixture
def group(make_task, make_rollout):
    """`group("task", ("text", 1.0), ("text", 0.0, Status.NO_ANSWER), answer="...")`."""

    def make(task_id, *completions, answers=None):
        rollouts, grades = [], []
        for index, (text, reward, *status) in enumerate(completions):
            rollouts.append(make_rollout(task_id, index, text=text))
            score = Score(value=reward, status=status[0] if status else Status.OK, answer=(answers or {}).get(text))
            grades.append(Grade(scores={"g": score}, reward=reward))
        return GradedGroup(task=make_task(task_id), rollouts=tuple(rollouts), grades=tuple(grades))

    return make


def test_answers_that_were_not_read(group):
    groups = [
        group("a", ("x", 0.0, Status.NO_ANSWER), ("y", 0.0, Status.INVALID_OUTPUT), ("4", 1.0), ("5", 0.0)),
        group("b", ("z", None, Status.TIMEOUT), ("6", 0.0)),
    ]
    assert drift_metrics(groups)["drift/unread_share/g"] == 2 / 5  # the grader's own failure is not counted


def test_the_same_answer_rewarded_for_several_tasks(group):
    groups = [
        group("a", ("hack", 1.0), ("hack", 1.0), ("4", 1.0), ("5", 0.0)),
        group("b", ("hack", 1.0), ("7", 0.0)),
        group("c", ("9", 1.0), ("7", 0.0)),
        group("d", ("hack", 0.0), ("hack", 0.0)),  # nothing in it is rewarded above the others
    ]
    # Rewarded answers, once a task: hack and 4, hack, 9; two of these four are rewarded elsewhere as well.
    assert drift_metrics(groups)["drift/duplicate_share"] == 0.5
    assert "drift/duplicate_share" not in drift_metrics(groups[:1])
    read = {"so it is 4": "4", "I say 4": "4"}
    groups = [
        group("a", ("so it is 4", 1.0), ("5", 0.0), answers=read),
        group("b", ("I say 4", 1.0), ("5", 0.0), answers=read),
    ]
    assert drift_metrics(groups)["drift/duplicate_share"] == 1.0


def test_letters_of_multiple_choice_are_no_trick(group):
    groups = [
        group("a", ("A", 1.0), ("B", 0.0)),
        group("b", ("A", 1.0), ("C", 0.0)),
        group("c", ("B", 1.0), ("A", 0.0)),  # rejects what the others reward
    ]
    assert drift_metrics(groups)["drift/duplicate_share"] == 0.0
    assert drift_metrics(groups[:2])["drift/duplicate_share"] == 1.0


def test_the_most_frequent_words(group):
    groups = [
        group("a", ("the answer is clearly 4", 1.0), ("the answer is clearly the answer is clearly", 1.0), ("no", 0.0)),
        group("b", ("x y z w v", 1.0), ("the answer is clearly wrong", 0.0)),
    ]
    assert drift_metrics(groups)["drift/top_ngram_share"] == pytest.approx(2 / 3)


def step(length=10.0, reward=0.5, unread=0.0, duplicates=0.1):
    return {
        "completion/tokens_mean": length, "reward/mean": reward, "drift/unread_share/g": unread,
        "drift/duplicate_share": duplicates,
    }  # fmt: skip


def warned(steps, watch=None):
    """The steps, from 1, at which there was a warning, with its first words."""
    watch = watch or DriftWatch()
    return [(number, text[:12]) for number, one in enumerate(steps, 1) for text in watch.observe(one)[1]]


def test_a_quiet_run_is_left_alone():
    assert warned([step()] * 40) == []
    assert warned([step(unread=0.6)] * 9 + [step(unread=0.4), step(unread=0.6)] * 5) == []
    assert warned([step(duplicates=0.9)] * 40) == []  # they were many from the beginning: so are the tasks
    assert warned([step()] * 10 + [step(length=50, reward=0.4)] * 30) == []  # longer, but not rewarded for it


def test_each_drift_is_told_once():
    assert warned([step(unread=0.6)] * 30) == [(10, "grader 'g' c")]
    # 0.1 at first; with n of the last ten at 0.9 the mean is 0.1 + 0.08 n, above 0.4 with n = 4.
    assert warned([step()] * 10 + [step(duplicates=0.9)] * 30) == [(14, "42% of the r")]
    # 10 tokens at first; with n of ten at 60 the mean is 10 + 5 n: three times as long with n = 4.
    assert warned([step()] * 10 + [step(length=60, reward=0.9)] * 30) == [(14, "completions ")]


def test_it_is_told_again_after_it_came_back():
    steps = [step(unread=0.6)] * 12 + [step()] + [step(unread=0.6)] * 12
    assert [number for number, _ in warned(steps)] == [10, 23]


def test_a_resumed_run_goes_on_as_if_it_had_never_stopped():
    steps = [step()] * 10 + [step(length=60, reward=0.9)] * 10
    for stop in (3, 12, 16):
        watch = DriftWatch()
        watch.read({"metrics": {**one, "learner/kl": None}} for one in steps[:stop])
        expected = [(number - stop, text) for number, text in warned(steps) if number > stop]
        assert warned(steps[stop:], watch) == expected


def test_the_length_is_compared_with_the_first_steps():
    watch = DriftWatch(steps=2)
    report = StepReport(step=1, policy=Policy(version=0, fingerprint="f"), metrics={"completion/tokens_mean": 10.0})
    lengths = [watch.watched(report, {"drift/x": 1.0})[0].metrics.get("drift/length_ratio") for _ in range(3)]
    assert lengths == [None, None, 1.0]
    later = StepReport(step=4, policy=report.policy, metrics={"completion/tokens_mean": 25.0})
    assert watch.watched(later, {"drift/x": 1.0})[0].metrics == {
        "completion/tokens_mean": 25.0, "drift/x": 1.0, "drift/length_ratio": 2.5,
    }  # fmt: skip


def policy(entropy=0.5, kl=0.1, reward=0.3, informative=0.8):
    return {
        "learner/entropy": entropy, "learner/kl": kl, "reward/mean": reward, "groups/informative_share": informative,
    }  # fmt: skip


def test_a_policy_that_repeats_itself_before_the_tasks_are_solved():
    collapsed = {"entropy": 0.05, "informative": 0.1}
    # 0.5 and 0.8 at first; with n of ten collapsed, informative is 0.8 - 0.07 n: below 0.2 with n = 9, entropy at 19%.
    assert warned([policy()] * 10 + [policy(**collapsed)] * 30) == [(19, "the entropy ")]
    assert warned([policy()] * 10 + [policy(**collapsed, reward=1.0)] * 30) == []  # solved: it may be sure of itself
    assert warned([policy()] * 10 + [policy(entropy=0.05)] * 30) == []  # its groups still teach
    assert warned([policy()] * 10 + [policy(**collapsed)] * 30, DriftWatch(bounds=None)) == []


def test_a_policy_that_moves_away_without_being_paid():
    # Steps at 0.1, then n of ten at 0.3: the mean 0.1 + 0.02 n has doubled with n = 5.
    quiet = [policy()] * 30
    assert warned([*quiet, *[policy(kl=0.3)] * 5]) == [(35, "the policy h")]
    assert warned([*[policy()] * 10, *[policy(kl=0.3)] * 10]) == []  # all runs begin at 0
    assert warned([*quiet, *[policy(kl=0.3, reward=0.4)] * 5]) == []
    assert warned([policy(kl=0.004)] * 20 + [policy(kl=0.02)] * 20) == []  # still where it started
