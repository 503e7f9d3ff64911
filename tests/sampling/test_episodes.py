"""Episodes on a fleet: they depend neither on their neighbours, nor on the samplers, nor on losses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rft.data.continuation import Continuation
from rft.data.messages import as_messages
from rft.data.rendering import Renderer
from rft.episodes.attempt import Ending
from rft.episodes.contract import EpisodeOver, Reply
from rft.episodes.conversation import Conversation, Rules
from rft.episodes.sampler import EpisodeSampler
from rft.errors import SampleError
from rft.models.base_model import load_tokenizer
from rft.sampling.sampler_events import SamplerLost, SamplerReplaced
from rft.types import Publication, Rollout, Score, Split, Status, StopReason, Task

from .fake_actors import HoldingEngine
from .fake_fleets import World, make_spec, run

TASKS = [Task(id=name, messages=as_messages(name), item={}, split=Split.TRAIN) for name in "abc"]


class InProcess:
    """Plays environments in this process: `turns` turns, each an answer to the text of the one before."""

    def __init__(self, turns: int = 3, seen: list[str] | None = None) -> None:
        self.turns = turns
        self.num_open = 0
        self.seeds: dict[str, set[int]] = {}
        self.pause: Callable[[Task, int], Any] | None = None

    def metrics(self) -> dict[str, float]:
        return {"endpoint/turns": 3.0}

    async def play(self, task: Task, seed: int, begin: Callable[[], Conversation]) -> tuple[Ending, Conversation]:
        self.seeds.setdefault(task.id, set()).add(seed)
        talk = begin()
        said = ""
        self.num_open += 1
        try:
            for turn in range(self.turns):
                if self.pause and turn:
                    await self.pause(task, turn)
                reply: Reply = await talk.say(as_messages(said or None))
                said = f"{turn} {reply.text}"
        except EpisodeOver:
            return Ending(Score(value=0.0, status=Status.NO_ANSWER), is_over=True), talk
        finally:
            self.num_open -= 1
        return Ending(Score(value=1.0)), talk

    async def count_left(self) -> int:
        return self.num_open


@pytest.fixture(scope="module")
def rules(tiny_model: Path) -> Rules:
    renderer = Renderer(load_tokenizer(tiny_model, None))
    return Rules(
        renderer=renderer,
        continuation=Continuation(renderer, {2}),
        max_turns=3,
        max_completion_tokens=5,
        context_tokens=200,
    )


def sampler_of(world: World, rules: Rules, workers: Any, max_open: int = 8) -> EpisodeSampler:
    return EpisodeSampler(world.fleet, workers, rules, seed=0, max_open=max_open, filler=2)


def start(sampler: EpisodeSampler, step: int = 1) -> Any:
    return sampler.sample(TASKS, completions_per_task=2, temperature=1.0, purpose="train", step=step)


async def rest(stream: Any) -> list[Rollout]:
    return sorted([one async for one in stream], key=lambda one: (one.task_id, one.index))


def spec(**settings: Any) -> Any:
    return make_spec(**{"max_completion_tokens": 5, "script": ["one", "two", "three", "four"]} | settings)


def undisturbed(rules: Rules) -> list[Rollout]:
    found: list[Rollout] = run(lambda world: rest(start(sampler_of(world, rules, InProcess()))), spec())
    return found


def test_episodes_are_those_of_any_fleet(rules: Rules) -> None:
    alone = undisturbed(rules)
    assert [(one.task_id, one.index) for one in alone] == [(name, index) for name in "abc" for index in (0, 1)]
    assert {one.stop for one in alone} == {StopReason.STOP}
    assert len({one.completion_ids for one in alone}) > 1
    assert all(sum(one.trained) < len(one.completion_ids) for one in alone)

    async def with_three(world: World) -> list[Rollout]:
        workers = InProcess()
        found = await rest(start(sampler_of(world, rules, workers, max_open=2)))
        assert workers.num_open == 0
        assert [len(seeds) for seeds in workers.seeds.values()] == [1, 1, 1], "a group has one environment seed"
        assert len(set.union(*workers.seeds.values())) == 3
        return found

    assert run(with_three, spec(), num_actors=3) == alone


def test_one_turn_is_a_single_completion(rules: Rules) -> None:
    async def job(world: World) -> None:
        workers = InProcess(turns=1)
        episodes = await rest(start(sampler_of(world, rules, workers)))
        world.fleet._render = rules.renderer.render
        single = await rest(world.fleet.sample(TASKS, completions_per_task=2, temperature=1.0, purpose="train", step=1))
        assert [(one.prompt_ids, one.completion_ids, one.logprobs, one.text) for one in episodes] == [
            (one.prompt_ids, one.completion_ids, one.logprobs, one.text) for one in single
        ]
        assert all(all(one.trained) for one in episodes)

    run(job, spec())


def test_a_sampler_that_dies_between_two_turns_changes_no_episode(rules: Rules) -> None:
    async def job(world: World) -> list[Rollout]:
        workers, second = InProcess(), asyncio.Event()

        async def pause(task: Task, turn: int) -> None:
            if turn == 1:
                if task.id == "c":
                    second.set()
                await world.until(SamplerReplaced)

        workers.pause = pause
        stream = start(sampler_of(world, rules, workers))
        await second.wait()
        world.engines.created[0].die()
        world.engines.lose(world.engines.samplers[0], "sampler 0 is gone")
        found = await rest(stream)
        assert len(world.of(SamplerLost)) == 1
        return found

    assert run(job, spec(), num_actors=2) == undisturbed(rules)


def test_all_turns_of_an_episode_have_its_policy(rules: Rules, published: Callable[..., Publication]) -> None:
    """A load between two turns waits where the engine holds one policy; elsewhere the old policy is kept."""

    async def job(world: World, serve: str) -> None:
        workers, loaded, between = InProcess(), asyncio.Event(), asyncio.Event()

        async def pause(task: Task, turn: int) -> None:
            between.set()
            if serve == "adapter":
                await loaded.wait()

        workers.pause = pause
        stream = start(sampler_of(world, rules, workers))
        await between.wait()

        async def load() -> None:
            await world.fleet.load(published(1))
            loaded.set()

        loading = asyncio.create_task(load())
        found = await rest(stream)
        assert {one.policy.version for one in found} == {0}
        await loading
        later = await rest(start(sampler_of(world, rules, InProcess()), step=2))
        assert {one.policy.version for one in later} == {1}

    for serve in ("adapter", "merged"):
        run(partial(job, serve=serve), spec(staleness=1, serve=serve, on_failed_proof="exclude"))


def test_a_stream_that_is_given_up_closes_its_episodes(rules: Rules) -> None:
    release = threading.Event()

    async def job(world: World) -> None:
        workers = InProcess()
        stream = start(sampler_of(world, rules, workers))
        waiting = asyncio.create_task(anext(stream))
        while not workers.num_open:
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert workers.num_open == 0
        assert [one for one in world.fleet._roster.streams if not one.is_over] == []

    run(job, spec(), builds=[partial(HoldingEngine, release=release)])


def test_a_failure_of_the_sampler_ends_the_stream(rules: Rules) -> None:
    release = threading.Event()

    async def job(world: World) -> None:
        workers = InProcess()
        stream = start(sampler_of(world, rules, workers))
        while not workers.num_open:
            await asyncio.sleep(0)
        world.fleet.fail(SampleError("the node is gone"))
        with pytest.raises(SampleError, match="the node is gone"):
            await anext(stream)
        assert workers.num_open == 0

    run(job, spec(), builds=[partial(HoldingEngine, release=release)])


def test_the_share_of_busy_engines_belongs_to_the_step_that_made_the_policy(
    rules: Rules, published: Callable[..., Publication]
) -> None:
    async def job(world: World) -> list[float | None]:
        sampler = sampler_of(world, rules, InProcess())
        await rest(start(sampler, step=1))
        await rest(start(sampler, step=2))  # sampled ahead
        await rest(sampler.sample(TASKS, completions_per_task=1, temperature=1.0, purpose="validation", step=1))
        syncs = [await sampler.load(published(version)) for version in (1, 2, 3)]
        return [sync.metrics.get("episode/engine_busy_share") for sync in syncs]

    first, second, none = run(job, spec())
    assert none is None
    assert 0 < first <= 1 and 0 < second <= 1
