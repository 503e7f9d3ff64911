"""The steps of a run that learns from demonstrations, with a learner and samplers in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from rft.data.demonstration_records import TokenRow
from rft.run.demonstration_loop import ComputedBatches, train_on_demonstrations
from rft.types import Adapter, Policy, Publication, StepReport, Sync


class Order:
    """In step n there are n rows of 3 tokens, of which the last is trained."""

    def of_step(self, step: int) -> list[TokenRow]:
        return [TokenRow(ids=(step, 7, 2), trained=(False, False, True)) for _ in range(step)]

    def metrics(self, batch: Sequence[TokenRow]) -> dict[str, float]:
        return {"demonstrations/rows": float(len(batch))}


class World:
    """A learner and samplers at once."""

    def __init__(self, step: int = 0) -> None:
        self.step = step
        self.story: list[str] = []

    async def learn(self, batch: Sequence[TokenRow]) -> dict[str, float]:
        self.step += 1
        self.story.append(f"learn {len(batch)}")
        return {"loss": 1 / self.step}

    async def policy(self) -> Policy:
        return Policy(version=self.step, fingerprint=f"f{self.step}")

    async def publish(self) -> Publication:
        self.story.append(f"publish {self.step}")
        return Publication(weights=Adapter(policy=await self.policy(), config={}, tensors=b""))

    async def load(self, publication: Publication) -> Sync:
        self.story.append(f"load {publication.policy.version}")
        return Sync(policy=publication.policy, proved=True, metrics={"sync/actors": 2.0})


async def no_loss(step: int) -> dict[str, float]:
    return {}


def train(
    world: World, steps: range, validate: Callable[[int], Awaitable[dict[str, float]]] = no_loss
) -> list[StepReport]:
    async def job() -> list[StepReport]:
        loop = train_on_demonstrations(
            Order(), world, world, steps=steps, is_measured=lambda step: step % 2 == 0, validate=validate
        )
        return [report async for report in loop]

    return asyncio.run(job())


def test_samplers_get_a_policy_only_when_it_is_measured() -> None:
    world = World()
    reports = train(world, range(1, 5))
    assert world.story == [
        "learn 1", "learn 2", "publish 2", "load 2", "learn 3", "learn 4", "publish 4", "load 4",
    ]  # fmt: skip
    policies = [Policy(version=step, fingerprint=f"f{step}") for step in range(1, 5)]
    assert [report.policy for report in reports] == policies
    assert reports[0].metrics == {
        "demonstrations/rows": 1.0,
        "learner/loss": 1.0,
    }
    assert reports[1].metrics["sync/proved"] == 1.0
    assert (reports[0].seconds.keys(), reports[1].seconds.keys()) == ({"render", "learn"}, {"render", "learn", "sync"})


def test_the_loss_is_measured_before_the_samplers_wake() -> None:
    world = World()

    async def validate(step: int) -> dict[str, float]:
        world.story.append(f"loss {step}")
        return {"eval/loss": 0.5} if step == 2 else {}

    reports = train(world, range(1, 3), validate)
    assert world.story == ["learn 1", "loss 1", "learn 2", "loss 2", "publish 2", "load 2"]
    assert ["eval/loss" in report.metrics for report in reports] == [False, True]
    assert ["validation_loss" in report.seconds for report in reports] == [False, True]


def test_a_resumed_run_first_loads_what_it_has_learned() -> None:
    """If it was killed in its last measurement, there is no step left that would load it."""
    world = World(step=4)
    assert train(world, range(5, 5)) == []
    assert world.story == ["publish 4", "load 4"]


def test_batches_are_computed_again_for_a_learner_that_was_lost() -> None:
    batches = ComputedBatches(Order())
    batches.write(2, [])
    batches.remove(up_to=2)
    assert batches.read(2) == Order().of_step(2)
