"""Over-optimisation: what should follow a rise of the reward, and does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from rft.metrics.intervals import paired_difference
from rft.metrics.over_optimization import OverOptimizationWatch, ValidationChanges, Watched
from rft.metrics.watch_findings import watch_findings, watched_by

GRADERS: dict[str, dict[str, Any]] = {"right": {"use": "exact"}, "truth": {"use": "exact", "weight": 0.0}}
EVALUATION = {"metric": "reward", "independent_grader": "truth"}
NUM_TASKS = 40


@pytest.fixture
def watched() -> Watched:
    return watched_by(GRADERS, {}, EVALUATION)


def tasks(share: float) -> dict[str, float]:
    """Scores of validation tasks, of which the first `share` is 1."""
    return {f"task {number}": float(number < share * NUM_TASKS) for number in range(NUM_TASKS)}


def run(watched: Watched, series: Sequence[tuple[float, float, float, float]]) -> list[dict[str, Any]]:
    """Lines of a run: training reward, its independent score, validation, its independent score; measured each 10."""
    changes, lines = ValidationChanges(watched), []
    for step, (reward, score, measured, independent) in enumerate(series, 1):
        noise = 0.01 * (-1) ** step  # windows of equal values would have no interval to speak of
        metrics = {"reward/mean": reward + noise, "score/right": reward + noise, "score/truth": score + noise}
        if step % 10 == 0:
            metrics |= {"eval/mean": measured, "independent/mean": independent}
            metrics |= changes.observe(tasks(measured), tasks(independent))
        lines.append({"step": step, "metrics": metrics})
    return lines


def found(lines: Sequence[Mapping[str, Any]], watched: Watched) -> list[tuple[int, str]]:
    return [(one["step"], one["text"]) for one in watch_findings(lines, watched)]


def test_a_rise_that_everything_follows_is_left_alone(watched: Watched) -> None:
    rising = [(share := 0.2 + step / 100, share, share, share) for step in range(60)]
    assert found(run(watched, rising), watched) == []
    # From 0.2 to 0.8 in training; the others have no room to rise.
    assert found(run(watched, [(0.2 + step / 100, 0.98, 1.0, 1.0) for step in range(60)]), watched) == []
    assert found(run(watched, [(0.3, 0.3, 0.3, 0.3)] * 60), watched) == []


def test_training_that_does_not_carry_over_is_told_at_the_measurement(watched: Watched) -> None:
    lines = run(watched, [(share := 0.2 + step / 100, share, 0.5, 0.5) for step in range(40)])
    ((step, text),) = found(lines, watched)
    # At step 20 the rise is 0.1, of which forty unchanged tasks could hide half: their interval ends at 0.066.
    assert step == 30
    change = paired_difference(tasks(0.5), tasks(0.5)).text(signed=True)
    assert f"and reward of the validation tasks by {change}: what is learned does not carry over" in text
    assert "the training reward has changed by +0.200 [" in text


def test_an_exploited_grader_is_told_in_training_and_on_the_validation_tasks(watched: Watched) -> None:
    # The same hack works on the validation tasks, so only the independent grader tells.
    lines = run(watched, [(share := 0.2 + step / 100, 0.3, share, 0.3) for step in range(60)])
    texts = found(lines, watched)
    assert [text.partition(" has changed")[0] for _, text in texts] == [
        "the training reward",
        "reward of the validation tasks",
    ]
    assert all("the independent grader 'truth' by " in text and "rft audit" in text for _, text in texts)
    without = Watched(**{name: getattr(watched, name) for name in ("rewarded", "reward_bounds", "metric")},
                      metric_bounds=(0.0, 1.0))  # fmt: skip
    assert found(lines, without) == []


def test_a_teachers_reward_is_not_compared(watched: Watched) -> None:
    lines = run(watched, [(0.2 + step / 100, 0.3, 0.3, 0.3) for step in range(60)])
    for line in lines:
        line["metrics"]["score/teacher"] = line["metrics"].pop("score/right")
    assert found(lines, watched) == []


def test_a_resumed_run_warns_like_an_uninterrupted_one(watched: Watched) -> None:
    lines = run(watched, [(share := 0.2 + step / 100, 0.3, share, 0.3) for step in range(60)])
    whole = OverOptimizationWatch(watched)
    expected = [text for line in lines for text in whole.observe(line["step"], line["metrics"])]
    resumed = OverOptimizationWatch(watched)
    resumed.read(lines[:25])
    later = [text for line in lines[25:] for text in resumed.observe(line["step"], line["metrics"])]
    assert later == expected[-len(later) :]
    assert later
