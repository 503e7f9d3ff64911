"""Samplers sleep while the learner works, in the order of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from rft.cluster import Shares
from rft.run.forecast.memory import memory_share
from rft.run.loop_learners import TurnTaking


class FakeWorld:
    """A fleet and a learner that record their calls."""

    def __init__(self) -> None:
        self.story: list[str] = []

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any) -> str:
            self.story.append(name)
            return name

        return call


def test_the_samplers_sleep_before_a_step_and_the_learner_makes_room_after_it() -> None:
    world = FakeWorld()
    learner = TurnTaking(world, world)  # type: ignore[arg-type]

    async def step() -> Sequence[Any]:
        return [await learner.learn([]), await learner.publish()]

    assert asyncio.run(step()) == ["learn", "publish"]
    assert world.story == ["sleep", "learn", "publish", "release_memory"]


@pytest.mark.parametrize(
    ("samplers_sleep", "gpus", "expected"),
    [
        (False, (0.5, 0.5), 0.5),
        (False, (1, 1), 1.0),
        (False, (0, 0), 0.0),
        (True, (0.5, 0.5), 0.85),
        (True, (1 / 3, 1 / 3), 0.7),  # two engines sleep
        (True, (0.25, 0.75), 0.75),  # at least its own share
    ],
)
def test_the_learners_share_of_a_gpus_memory(samplers_sleep: bool, gpus: tuple[float, float], expected: float) -> None:
    shares = Shares(sampler_threads=1, learner_threads=1, sampler_gpus=gpus[0], learner_gpus=gpus[1])
    assert memory_share(shares, samplers_sleep=samplers_sleep) == pytest.approx(expected)
