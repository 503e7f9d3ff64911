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
from rft.turns import Author, Turn, turn_from_json, turn_to_json
from rft.types import Grade, Rollout, Score, Status, Task

FAILED = Score(value=None, status=Status.ENVIRONMENT_ERROR, reason="the server is down")


@pytest.fixture
def grade(make_task: Callable[..., Task], make_rollout: Callable[..., Rollout]) -> Callable[..., Grade]:
    """`grade(score, weight=0.5)`: the grade of an episode, with another grader that gives 1."""

    def run(score: Score | None, *, turns: tuple[Turn, ...] = (), **entry: Any) -> Grade:
        async def main() -> Grade:
            graders = [
                load_grader("environment", {"use": "environment", **entry}),
                load_grader("any", {"use": "pattern", "pattern": "(?s).*"}),
            ]
            graders = [replace(grader, in_process=True) for grader in graders]  # without a process for each test
            panel = Panel(graders)

            async def one() -> AsyncIterator[Rollout]:
                length = turns[-1].end if turns else 3
                ids, logprobs = tuple(range(length)), (0.0,) * length
                rollout = make_rollout("t", 0, completion_ids=ids, logprobs=logprobs)
                yield replace(rollout, environment=score, turns=turns)

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


def test_the_parts_of_a_reward_by_turn(grade: Any) -> None:
    """0.5 * 0.75 of the environment, and 1 of the other grader, which counts for the last turn."""
    authors = (Author.POLICY, Author.ENVIRONMENT, Author.POLICY, Author.ENVIRONMENT, Author.POLICY)
    turns = tuple(
        Turn(author=author, start=place, end=place + 1, reward=reward)
        for place, (author, reward) in enumerate(zip(authors, (0.5, None, None, None, 0.25), strict=True))
    )
    found = grade(Score(value=0.75), weight=0.5, turns=turns)
    assert (found.reward, found.turn_rewards) == (1.375, (0.25, 0.0, 1.125))
    assert grade(FAILED, turns=turns).turn_rewards == ()
    silent = tuple(replace(turn, reward=None) for turn in turns)
    assert grade(Score(value=0.75), turns=silent).turn_rewards == ()
    assert [turn_from_json(turn_to_json(turn)) for turn in turns] == list(turns)
    assert "reward" not in turn_to_json(silent[0]), "lines of episodes without rewards by turn stay as they were"


def test_the_score_is_added_to_the_graders() -> None:
    values = {"environment": {"use": "my_env.py:guess"}, "graders": {"short": {"use": "length"}}}
    added = with_environment_score(values)
    assert added["graders"] == {"short": {"use": "length"}, "environment": {"use": "environment"}}
    own = values | {"graders": {"environment": {"use": "environment", "range": [-1, 1]}}}
    assert with_environment_score(own) is own
    assert (lowest_score(added["graders"]), lowest_score(own["graders"])) == (0.0, -1.0)
    for without in ({"environment": {"use": None}, "graders": {}}, {"graders": {}}, "text"):
        assert with_environment_score(without) is without
