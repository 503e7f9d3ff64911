"""Fleets of fake engines, on a real Ray or without Ray."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rft.config.samplers.fake import FakeSamplerConfig
from rft.sampling import engines as engines_module
from rft.sampling.actor import SamplerActor
from rft.sampling.engine import Engine
from rft.sampling.engines import Engines
from rft.sampling.fleet import Fleet
from rft.sampling.spec import EnginePlace, EngineSpec
from rft.types import Adapter, Policy, Publication

CANARIES = ((5, 6, 7), (8, 9, 5))
BASE = Policy(version=0, fingerprint="base")
FAKE_SPEC = EngineSpec(
    sampler=FakeSamplerConfig(script=["one", "two", "three", "four", "five"], max_completion_tokens=4),
    base=BASE,
    max_lora_rank=8,
    dtype="float32",
    max_context_tokens=64,
    seed=0,
    place=EnginePlace(model=Path("nowhere"), num_threads=1, num_gpus=0),
)


@pytest.fixture(scope="module")
def in_ray(shared_ray: Any) -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """`in_ray(coroutine)`: its result. One event loop for the whole file."""
    shared_ray.start()
    with asyncio.Runner() as runner:
        # A test that hangs fails instead.
        yield lambda job: runner.run(asyncio.wait_for(job, 600))


@pytest.fixture
def in_fake_ray(fake_ray: None) -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """The same without Ray: actors are objects of this process."""
    with asyncio.Runner() as runner:
        yield lambda job: runner.run(asyncio.wait_for(job, 600))


@pytest.fixture
def with_fleet() -> Callable[..., Coroutine[Any, Any, Any]]:
    """`with_fleet(job, num_actors=2, ...)`: the coroutine that starts a fleet, runs `job(fleet)` and closes it."""

    async def run(
        job: Callable[[Fleet], Coroutine[Any, Any, Any]],
        *,
        num_actors: int = 1,
        staleness: int = 0,
        num_runs: int = 1,
        actor_options: Sequence[dict[str, Any]] | None = None,
        nodes: Sequence[str] = (),
        warn: Callable[[str], None] = print,
        **settings: Any,
    ) -> Any:
        sampler = FAKE_SPEC.sampler.model_copy(update=settings)
        engines = Engines(
            replace(FAKE_SPEC, sampler=sampler, staleness=staleness, num_runs=num_runs, canaries=CANARIES),
            actor_options=actor_options or [{"num_cpus": 0.1}] * num_actors,
            nodes=nodes,
        )
        try:
            await engines.start()
            return await job(of_run(engines, warn=warn))
        finally:
            await engines.end_replacements()
            engines.close()

    return run


def of_run(engines: Engines, *, seed: int = 0, warn: Callable[[str], None] = print) -> Fleet:
    """The fleet of a run that uses these engines."""
    return Fleet(engines, engines.spec.sampler, render=lambda task: (len(task.id), 7), seed=seed, warn=warn)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[EngineSpec], Engine]], None]:
    """`engine(SomeEngine)`: what the actors of this test build. Ray carries the class over by value."""

    def use(build: Callable[[EngineSpec], Engine]) -> None:
        class Actor(SamplerActor):
            def __init__(self, spec: EngineSpec) -> None:
                super().__init__(spec, build)

        monkeypatch.setattr(engines_module, "SamplerActor", Actor)

    return use


@pytest.fixture
def published() -> Callable[..., Publication]:
    """`published(1, -2.0, -1.0)`: fake weights, and what the learner says to every token under them and the base."""

    def publish(version: int, *scores: float) -> Publication:
        tensors = f"tensors {version}".encode()
        policy = Policy(version=version, fingerprint=hashlib.sha256(tensors).hexdigest()[:16])
        rows = [tuple((score,) * (len(ids) - 1) for ids in CANARIES) for score in scores]
        scored = dict(zip(("canary_logprobs", "base_canary_logprobs"), rows, strict=False))
        return Publication(weights=Adapter(policy=policy, config={}, tensors=tensors), **scored)

    return publish


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets the engines hand over what they hold."""
    event = threading.Event()
    yield event
    event.set()
