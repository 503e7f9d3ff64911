"""Fleets of fake engines without Ray: who samples what, and how an engine's failure is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rft.errors import SampleError
from rft.sampling.fake_engine import FakeEngine
from rft.sampling.fleet import Fleet
from rft.sampling.spec import EngineSpec
from rft.types import Rollout, Task


async def sample(fleet: Fleet, tasks: Sequence[Task], *, purpose: str = "train", step: int = 1) -> list[Rollout]:
    stream = fleet.sample(tasks, completions_per_task=3, temperature=1.0, purpose=purpose, step=step)
    return [rollout async for rollout in stream]


@pytest.fixture
def tasks(make_task: Callable[..., Task]) -> list[Task]:
    return [make_task(f"t{number}") for number in range(5)]


def test_the_number_of_actors_changes_nothing(in_fake_ray: Any, tasks: list[Task], with_fleet: Any) -> None:
    def by_place(rollouts: list[Rollout]) -> list[Rollout]:
        return sorted(rollouts, key=lambda rollout: (rollout.task_id, rollout.index))

    one = in_fake_ray(with_fleet(lambda fleet: sample(fleet, tasks)))
    three = in_fake_ray(with_fleet(lambda fleet: sample(fleet, tasks), num_actors=3))
    assert by_place(one) == by_place(three)
    assert len({rollout.text for rollout in one}) > 1


def test_seeds_differ_by_purpose_and_step(in_fake_ray: Any, tasks: list[Task], with_fleet: Any) -> None:
    async def job(fleet: Fleet) -> list[list[str]]:
        asked = [("train", 1), ("train", 1), ("train", 2), ("held-out", 1)]
        return [[r.text for r in await sample(fleet, tasks, purpose=purpose, step=step)] for purpose, step in asked]

    first, again, later, held_out = in_fake_ray(with_fleet(job))
    assert first == again
    assert first != later
    assert first != held_out


def test_no_tasks_no_completions(in_fake_ray: Any, with_fleet: Any) -> None:
    assert in_fake_ray(with_fleet(lambda fleet: sample(fleet, []))) == []


def test_a_stream_that_is_abandoned_leaves_the_fleet_usable(
    in_fake_ray: Any, tasks: list[Task], with_fleet: Any
) -> None:
    async def job(fleet: Fleet) -> list[Rollout]:
        stream = fleet.sample(tasks, completions_per_task=3, temperature=1.0, purpose="train", step=1)
        async for _ in stream:
            break
        await stream.aclose()
        return await sample(fleet, tasks)

    assert len(in_fake_ray(with_fleet(job, num_actors=2))) == 15


def test_an_engine_that_cannot_be_built(in_fake_ray: Any, engine: Any, with_fleet: Any) -> None:
    class BrokenEngine(FakeEngine):
        def __init__(self, spec: EngineSpec) -> None:
            raise ValueError("no such model")

    engine(BrokenEngine)
    with pytest.raises(SampleError, match=r"a sampler could not be started: .*no such model"):
        in_fake_ray(with_fleet(lambda fleet: sample(fleet, [])))


def test_an_engine_that_fails_names_its_cause(
    in_fake_ray: Any, engine: Any, tasks: list[Task], with_fleet: Any
) -> None:
    class FailingEngine(FakeEngine):
        def step(self) -> list[tuple[int, Rollout]]:
            if len(self._waiting) == 15:
                return super().step()
            raise ValueError("out of memory")

    engine(FailingEngine)
    with pytest.raises(SampleError, match=r"sampler 0 failed: .*out of memory"):
        in_fake_ray(with_fleet(lambda fleet: sample(fleet, tasks)))
