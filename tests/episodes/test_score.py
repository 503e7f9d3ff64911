"""The environment's score in the panel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from rft.config.environment import lowest_score, with_environment_score
from rft.grading import load_grader
from rft.grading.panel import Panel
from rft.types import Grade, Rollout, Score, Status, Task

FAILED = Score(value=None, status=Status.ENVIRONMENT_ERROR, reason="the server is down")


@pytest.fixture
def grade(make_task: Callable[..., Task], make_rollout: Callable[..., Rollout]) -> Callable[..., Grade]:
    """`grade(score, weight=0.5)`: the grade of an episode, with another grader that gives 1."""

    def run(score: Score | None, **entry: Any) -> Grade:
        async def main() -> Grade:
            graders = [
                load_grader("environment", {"use": "environment", **entry}),
                load_grader("any", {"use": "pattern", "pattern": "(?s).*"}),
            ]
            panel = Panel(graders)

            async def one() -> AsyncIterator[Rollout]:
                yield replace(make_rollout("t", 0), environment=score)

            try:
                [group] = await panel.grade([make_task("t")], one(), rollouts_per_task=1)
            finally:
                panel.close()
            return group.grades[0]

        return asyncio.run(main())

    return run


@pytest.mark.parametrize(
    ("score", "entry", "reward"),
    [
        (Score(value=0.25), {}, 1.25),
        (Score(value=-1.0), {"weight": 0.5, "range": [-1, 1]}, 0.5),
        (Score(value=0.0, status=Status.NO_ANSWER), {}, 1.0),
        (Score(value=None, status=Status.SKIPPED), {"weight": 0}, 1.0),
        (Score(value=None, status=Status.SKIPPED), {}, None),
        (None, {"weight": 0}, 1.0),
        (Score(value=2.0), {}, None),
        (FAILED, {}, None),
        (FAILED, {"weight": 0}, None),
    ],
)
def test_the_reward(grade: Any, score: Score | None, entry: dict[str, Any], reward: float | None) -> None:
    """A failure of the environment leaves no reward, whatever its weight; so does a score outside the range."""
    if score == Score(value=2.0):
        entry = {"range": [0, 1]}
    assert grade(score, **entry).reward == reward


def test_the_score_is_added_to_the_graders() -> None:
    values = {"environment": {"use": "my_env.py:guess"}, "graders": {"short": {"use": "length"}}}
    added = with_environment_score(values)
    assert added["graders"] == {"short": {"use": "length"}, "environment": {"use": "environment"}}
    own = values | {"graders": {"environment": {"use": "environment", "range": [-1, 1]}}}
    assert with_environment_score(own) is own
    assert (lowest_score(added["graders"]), lowest_score(own["graders"])) == (0.0, -1.0)
    for without in ({"environment": {"use": None}, "graders": {}}, {"graders": {}}, "text"):
        assert with_environment_score(without) is without
