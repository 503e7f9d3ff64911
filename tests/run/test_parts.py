"""The parts of a run are opened and closed in one order, whatever happens in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from rft.cluster import Shares
from rft.config.commands import load_training
from rft.errors import LearnError, SampleError
from rft.events import Event, PartsStarted
from rft.memory import Sizes
from rft.run import parts
from rft.run.parts import SharedRay, open_parts

RUN = load_training(["experiment=quickstart"], "/nowhere")
PREPARED: Any = SimpleNamespace(
    model="model",
    base=SimpleNamespace(fingerprint="base"),
    graders=(),
    rows=None,
    rank_below=0,
    teachers=(),
    environment=None,
)

FAKE_SPEC = SimpleNamespace(place=SimpleNamespace(on_gpu=False), canaries=())
SIZES = Sizes(completions_per_micro_batch=1)
FACTS = [{"num_cache_blocks": 12300, "block_size": 16}]


class World:
    """Records what is opened and closed."""

    def __init__(self) -> None:
        self.story: list[str] = []
        self.fails = ""
        self.shares = Shares(sampler_threads=1, learner_threads=1, sampler_gpus=0, learner_gpus=0)
        self.grader_options: tuple[dict[str, Any], ...] = ()
        self.start: Any = None
        """The publication of the adapter that the run starts from."""
        self.events: list[Event] = []

    def does(self, what: str) -> None:
        self.story.append(what)
        if what == self.fails:
            raise (SampleError if "sampler" in what else LearnError)(f"{what} failed")

    def part(self, name: str) -> Any:
        """An object whose methods only record that they were called."""

        async def method(what: str) -> int:
            self.does(f"{what} {name}")
            return 0

        async def start_publication() -> Any:
            return self.start

        async def load(publication: Any) -> None:
            self.does(f"load {publication}")

        return SimpleNamespace(
            start=lambda: method("start"),
            start_publication=start_publication,
            load=load,
            max_restarts=0,
            is_up=lambda: method("start"),
            end_streams=lambda: method("end streams of"),
            leave=lambda: method("leave"),
            renew_with=lambda renew: None,
            admit=lambda: None,
            close=lambda: method("close"),
            canaries=((1, 2),),
            facts=FACTS,
            samplers=(),
            spec=FAKE_SPEC,
            measures_tolerance=False,
        )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(parts.build, "panel", lambda *_: SimpleNamespace(close=lambda: world.does("close panel")))
    monkeypatch.setattr(parts.build, "engine_spec", lambda *_, **__: None)
    monkeypatch.setattr(parts.build, "engines", lambda *_: world.part("samplers"))
    monkeypatch.setattr(parts.build, "fleet", lambda engines, *_, **__: engines)

    async def learner(run: Any, prepared: Any, place: Any, checkpoint: Any, *, sizes: Any, score: Any) -> Any:
        world.does("build learner" if score is None else f"build learner with {score}")
        return world.part("learner")

    @asynccontextmanager
    async def workplace(config: Any, *, part: str, **_: Any) -> AsyncIterator[Any]:
        world.does(f"enter place of {part}")
        try:
            yield SimpleNamespace(shares=world.shares, grader_options=world.grader_options, num_late_samplers=0)
        finally:
            world.does("leave place")

    @asynccontextmanager
    async def grader_models(graders: Any, options: Any) -> AsyncIterator[None]:
        if options:
            world.does("load models of graders")
        yield

    monkeypatch.setattr(parts, "grader_models", grader_models)
    monkeypatch.setattr(parts, "_forecast", lambda *_, **__: SimpleNamespace(sizes=SIZES, facts=dict))
    monkeypatch.setattr(parts.build, "learner", learner)
    monkeypatch.setattr(parts, "workplace", workplace)
    return world


def run(world: World, *, raises: Exception | None = None, **options: Any) -> None:
    async def job() -> None:
        async with open_parts(RUN, PREPARED, world.events.append, **options):
            world.does("run")
            if raises is not None:
                raise raises

    asyncio.run(job())


OPENED = ["enter place of all", "build learner", "start samplers", "start learner", "run"]
CLOSED = ["end streams of samplers", "leave place", "close panel"]


def test_a_run_closes_everything_backwards(world: World) -> None:
    run(world)
    assert world.story == [*OPENED, "close learner", *CLOSED]


def test_the_start_is_loaded_before_anything_is_sampled(world: World) -> None:
    world.start = "version 0"
    run(world)
    assert world.story[:6] == [*OPENED[:-1], "load version 0", "run"]


@pytest.mark.parametrize("error", [LearnError("no more"), asyncio.CancelledError()])
def test_a_run_that_fails_does_not_wait_for_a_busy_learner(world: World, error: Exception) -> None:
    with pytest.raises(type(error)):
        run(world, raises=error)
    assert world.story == [*OPENED, *CLOSED]


def test_facts_about_the_samplers_are_emitted(world: World) -> None:
    run(world)
    assert PartsStarted(facts={"samplers": FACTS}) in world.events


@pytest.mark.parametrize(
    ("sampler_gpus", "learner_gpus", "in_turn"),
    [(0.5, 0.5, True), (0.25, 0.75, True), (1, 1, False), (0.5, 1, False), (1, 0.5, False), (0, 1, False)],
)
def test_a_learner_starts_after_the_samplers_of_its_gpu(
    world: World, sampler_gpus: float, learner_gpus: float, in_turn: bool
) -> None:
    world.shares = replace(world.shares, sampler_gpus=sampler_gpus, learner_gpus=learner_gpus)
    run(world)
    samplers, learner = world.story.index("start samplers"), world.story.index("build learner")
    assert (samplers < learner) is in_turn
    assert world.story[-4:] == ["close learner", *CLOSED]
    assert world.story.count("start samplers") == world.story.count("start learner") == 1


@pytest.mark.parametrize("fails", ["build learner", "start samplers", "start learner"])
def test_a_start_that_fails_leaves_nothing_open(world: World, fails: str) -> None:
    world.fails = fails
    with pytest.raises((LearnError, SampleError), match=f"{fails} failed"):
        run(world)
    assert world.story[-3:] == CLOSED
    assert "run" not in world.story


def test_a_learner_that_does_not_close_leaves_nothing_else_open(world: World) -> None:
    world.fails = "close learner"
    with pytest.raises(LearnError):
        run(world)
    assert world.story == [*OPENED, "close learner", *CLOSED]


SHARED_RAY = SharedRay(address="127.0.0.1:6379", parallel=2, fork_servers=None)  # type: ignore[arg-type]


@asynccontextmanager
async def lease(world: World) -> AsyncIterator[Any]:
    world.does("lease")
    yield SimpleNamespace(engines=world.part("shared samplers"), **vars(world.part("shared samplers")))
    world.does("return lease")


def test_models_of_graders_load_while_no_engine_starts(world: World) -> None:
    world.grader_options = ({"num_gpus": 0.2},)
    run(world)
    assert world.story[1:4] == ["load models of graders", "build learner", "start samplers"]
    world.story.clear()
    run(world, shared_ray=SHARED_RAY, samplers=lease(world))
    assert world.story[2:5] == ["start shared samplers", "load models of graders", "build learner with ((1, 2),)"]


def test_shared_samplers_are_left_to_the_other_runs(world: World) -> None:
    run(world, shared_ray=SHARED_RAY, samplers=lease(world))
    assert world.story == [
        "lease",
        "enter place of learner",
        "build learner with ((1, 2),)",
        "start shared samplers",
        "start learner",
        "run",
        "leave shared samplers",
        "close learner",
        "leave place",
        "return lease",
        "close panel",
    ]


def test_a_teacher_scores_the_training_completions(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(start_samplers: Any) -> None:
        await start_samplers()

    teachers = SimpleNamespace(facts=FACTS, panel="the teacher's panel", start=start)

    @asynccontextmanager
    async def opened_teachers(*_: Any) -> AsyncIterator[Any]:
        world.does("create teacher")
        yield teachers
        world.does("end teacher")

    monkeypatch.setattr(parts, "opened_teachers", opened_teachers)

    async def job() -> Any:
        async with open_parts(RUN, PREPARED, world.events.append) as opened:
            return opened.training_panel

    assert asyncio.run(job()) == "the teacher's panel"
    assert world.story[1] == "create teacher"
    assert world.story[-4:] == ["end teacher", *CLOSED]
    assert PartsStarted(facts={"samplers": FACTS, "teacher_engines": FACTS}) in world.events
