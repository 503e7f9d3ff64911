"""Numbers about groups, worked out by hand."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rft.metrics.step import Stopwatch, staleness_metrics, step_metrics
from rft.types import Grade, GradedGroup, Policy, Score, Status, StopReason


def test_numbers_of_a_step(make_group: Callable[..., GradedGroup]) -> None:
    groups = [
        make_group([1.0, 0.0, None], completion_ids=(1, 2, 3, 4), logprobs=(-1.0,) * 4),
        make_group([0.5, 0.5, 0.5], completion_ids=(1, 2), logprobs=(-1.0,) * 2, stop=StopReason.LENGTH),
    ]
    assert step_metrics(groups) == pytest.approx(
        {
            "reward/mean": 0.5,  # (1 + 0 + 3 x 0.5) / 5
            "reward/std": 0.1**0.5,  # (0.25 + 0.25) / 5 = 0.1
            "score/g": 0.5,
            "completion/tokens_mean": 3.0,
            "completion/truncated_share": 0.5,
            "groups/informative_share": 0.5,
            "rollouts/dropped_share": 1 / 6,
        }
    )


def test_numbers_of_each_family(make_group: Callable[..., GradedGroup]) -> None:
    groups = [
        replace(group, task=replace(group.task, family=family))
        for family, group in (
            ("sums", make_group([1.0, 0.0])),
            ("gcd", make_group([0.5, 0.5])),
            ("sums", make_group([1.0, None])),
            ("bits", make_group([None])),
        )
    ]
    metrics = step_metrics(groups)
    assert {name: value for name, value in metrics.items() if name.startswith("family_")} == pytest.approx(
        {
            "family_reward/sums": 2 / 3,
            "family_informative_share/sums": 0.5,
            "family_groups/sums": 2.0,
            "family_reward/gcd": 0.5,
            "family_informative_share/gcd": 0.0,
            "family_groups/gcd": 1.0,
            "family_informative_share/bits": 0.0,
            "family_groups/bits": 1.0,
        }
    )


def test_what_has_no_value_is_left_out(make_group: Callable[..., GradedGroup]) -> None:
    metrics = step_metrics([make_group([None, None])])
    assert metrics["rollouts/dropped_share"] == 1.0
    assert not [name for name in metrics if name.startswith(("reward/", "score/"))]


def test_a_monitored_grader_is_averaged_over_what_it_scored(make_group: Callable[..., GradedGroup]) -> None:
    group = make_group([1.0, 0.0])
    grades = (
        Grade(scores={"a": Score(value=1.0), "b": Score(value=None, status=Status.TIMEOUT)}, reward=1.0),
        Grade(scores={"a": Score(value=0.0), "b": Score(value=3.0)}, reward=0.0),
    )
    metrics = step_metrics([GradedGroup(task=group.task, rollouts=group.rollouts, grades=grades)])
    assert (metrics["score/a"], metrics["score/b"], metrics["reward/mean"]) == (0.5, 3.0, 0.5)


def test_staleness_counts_versions_over_completions(make_group: Callable[..., GradedGroup]) -> None:
    groups = [
        make_group([1.0], policy=Policy(version=5, fingerprint="five")),
        make_group([1.0, 0.0], policy=Policy(version=2, fingerprint="two")),
    ]
    metrics = staleness_metrics(groups, newest_version=5)
    assert metrics == {"policy/staleness_mean": 2.0, "policy/staleness_max": 3.0}  # (0 + 3 + 3) / 3


def test_laps_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 10.5, 12.0])
    # The module's reference, not the function itself, which a thread of another test may call.
    monkeypatch.setattr("rft.metrics.step.time", SimpleNamespace(monotonic=lambda: next(times)))
    watch = Stopwatch()
    watch.lap("sample_and_grade")
    watch.lap("learn")
    assert watch.seconds == {"sample_and_grade": 0.5, "learn": 1.5}
