"""A stand-in for Ray: the samplers and the learner of a run are objects of this process, with real libraries.

Each start of Ray imports vLLM, Transformers and TRL anew in every process of a run; here all runs of a test process
share these imports. Arguments of an actor are pickled, as by Ray.
"""

from __future__ import annotations

import asyncio
import io
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import asynccontextmanager, chdir, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle

from rft.cli import main
from rft.cluster import Workplace, device_here, this_machine
from rft.cluster.workplace import _num_processes, _shared
from rft.learning.remote import LearnerActor, RankActor
from rft.sampling.actor import SamplerActor
from tests.sampling.fake_actors import FakeActor, FakeReference

NO_OPTIONS: dict[str, Any] = {}
_ONE_BUILDS = threading.Lock()
"""Held while an actor builds its engine or learner: Transformers changes global state while it loads a model."""

_ONE_LEARNS = threading.Lock()
"""Held while a learner takes a step: Accelerate keeps the place within a step for all trainers of a process."""


class FakeRay:
    """The functions of `ray` with which rft starts actors, and stores weights."""

    put = FakeReference
    util = SimpleNamespace(get_node_ip_address=lambda: "127.0.0.1")

    def get_runtime_context(self) -> Any:
        """Return the context of a process without a GPU."""
        return SimpleNamespace(get_accelerator_ids=dict)

    def remote(self, kind: type) -> FakeActorClass:
        """Return the class of an actor."""
        return FakeActorClass(kind)

    def kill(self, actor: FakeActor) -> None:
        """End an actor."""
        actor.die()


class FakeActorClass:
    """The class of an actor, as `ray.remote` returns it."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def options(self, **_: Any) -> FakeActorClass:
        """Ignore the places of processes."""
        return self

    def remote(self, *arguments: Any) -> FakeActor:
        """Start an actor."""
        return StartingActor(self._kind, cloudpickle.dumps(arguments))


class StartingActor(FakeActor):
    """An actor whose constructor runs in a thread of its own, which also runs its blocking methods."""

    def __init__(self, kind: type, arguments: bytes) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix=kind.__name__)
        self._made: Future[Any] = self.thread.submit(_make, kind, arguments)
        super().__init__(None)

    async def started(self) -> Any:
        """The object behind it, once it is made."""
        self.actor = await asyncio.wrap_future(self._made)
        return self.actor

    def die(self) -> None:
        """End the thread."""
        super().die()
        self.thread.shutdown(wait=False)


def _make(kind: type, arguments: bytes) -> Any:
    with _ONE_BUILDS:
        actor = kind(*cloudpickle.loads(arguments))
        if isinstance(actor, SamplerActor) and actor._building is not None:
            wait([actor._building])
        return actor


_learn = LearnerActor.learn


def learn_alone(actor: LearnerActor, *parts: bytes) -> dict[str, float]:
    """Take a step while no other learner does; the ranks of one learner step together."""
    with nullcontext() if isinstance(actor, RankActor) else _ONE_LEARNS:
        return _learn(actor, *parts)


@asynccontextmanager
async def workplace_here(
    config: Any, *, model: Path, teachers: Sequence[Any] = (), part: Any = "all", parallel: int = 1, **_: Any
) -> AsyncIterator[Workplace]:
    """Yield the places of a run in this process, with one thread for each engine and learner."""
    numbers = _num_processes(config, part)
    shares = _shared(config, [this_machine(sum(numbers))], parallel=parallel, part=part)
    samplers, ranks, models, scorers = ((NO_OPTIONS,) * number for number in numbers)
    yield Workplace(
        shares=replace(shares, sampler_threads=1, learner_threads=1),
        model=model,
        sampler_options=samplers,
        learner_options=ranks,
        mirrors=(None,) * len(ranks),
        device=device_here(0),
        grader_options=models,
        teacher_models=tuple(teacher.folder for teacher in teachers),
        teacher_options=scorers,
    )


@asynccontextmanager
async def _session(*_: Any, **__: Any) -> AsyncIterator[str]:
    yield "fake"


def run_command(*words: str, cwd: Path) -> tuple[int, str]:
    """Run a command of rft in this process; return its exit code and its output.

    vLLM's engine needs a process of its own, so that of Transformers replaces it.
    """
    has_sampler = words[0] == "sample" or any(word.startswith(("sampler=", "resume=")) for word in words)
    output = io.StringIO()
    with (
        without_ray(),
        chdir(cwd),
        redirect_stdout(output),
        redirect_stderr(output),
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(SystemExit) as caught,
    ):
        patch.setattr(sys, "argv", ["rft"])
        main([*words, *([] if has_sampler else ["sampler=transformers"])])
    print(output.getvalue())  # pytest shows it when the test fails
    assert isinstance(caught.value.code, int)
    return caught.value.code, output.getvalue()


@contextmanager
def without_ray() -> Iterator[None]:
    """Let commands of this process run their samplers and learners in it during the block, and draw no pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rft.run_folder.plots.plot_rewards", lambda folder: folder / "plots" / "reward.png")
        for module in ("rft.sampling.engines", "rft.learning.remote"):
            patch.setattr(f"{module}.ray", FakeRay())
        patch.setattr(LearnerActor, "learn", learn_alone)
        for module in ("rft.run.parts", "rft.sweep.shared_engines"):
            patch.setattr(f"{module}.workplace", workplace_here)
        for module in ("rft.api.train", "rft.api.evaluate"):
            patch.setattr(f"{module}.ray_ahead_for", nullcontext)
        patch.setattr("rft.sweep.host.ray_session", _session)
        patch.setattr("rft.sweep.host.starts_ray", lambda _: True)
        yield
