"""Engines whose actors are objects of this process, which a test kills or freezes."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray.exceptions import ObjectLostError, RayActorError, RayError, RayTaskError

from rft.sampling.actor import SamplerActor
from rft.sampling.engine import Engine
from rft.sampling.engines import Engines
from rft.sampling.fake_engine import FakeEngine
from rft.sampling.spec import EngineSpec
from rft.types import Rollout


class FakeReference:
    """A reference to weights, which is worthless after the death of their owner."""

    def __init__(self, weights: Any) -> None:
        self._weights = weights
        self.is_lost = False

    def get(self) -> Any:
        """The weights."""
        if self.is_lost:
            raise ObjectLostError("0" * 56, None, "")
        return self._weights

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.sleep(0, self.get()).__await__()


class FakeActor:
    """An actor, as Ray presents it."""

    thread: ThreadPoolExecutor | None = None
    """Runs its blocking methods."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.is_frozen = False
        self._dead = asyncio.Event()

    async def started(self) -> Any:
        """The object behind it, once that is there."""
        return self.actor

    @property
    def engine(self) -> Any:
        """The engine of a sampler's actor."""
        return self.actor._engine

    def __getattr__(self, name: str) -> FakeMethod:
        return FakeMethod(self, name)

    def die(self) -> None:
        """End the process."""
        self._dead.set()

    async def alive(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """The answer to a call, unless the process ends first."""
        task, death = asyncio.ensure_future(call()), asyncio.ensure_future(self._dead.wait())
        try:
            await asyncio.wait([task, death], return_when=asyncio.FIRST_COMPLETED)
            if self.is_frozen:
                await death
            if self._dead.is_set():
                raise RayActorError(error_msg="The actor died.")
            return task.result()
        except RayError:
            raise
        except Exception as error:
            lines = f"{type(error).__name__}: {error}"
            raise RayTaskError("call", lines, error, proctitle="fake", pid=1, ip="127.0.0.1") from error
        finally:
            task.cancel()
            death.cancel()


class FakeMethod:
    """A method of an actor, as Ray presents it."""

    def __init__(self, owner: FakeActor, name: str) -> None:
        self._owner, self._name = owner, name

    def options(self, **_: Any) -> FakeMethod:
        return self

    def remote(self, *arguments: Any) -> Any:
        if self._name == "sample":
            return self._messages(*arguments)
        if self._name == "gpus":
            return asyncio.ensure_future(self._owner.alive(lambda: asyncio.sleep(0, ())))
        return asyncio.ensure_future(self._owner.alive(lambda: self._call(arguments)))

    async def _call(self, arguments: tuple[Any, ...]) -> Any:
        fetched = [one.get() if isinstance(one, FakeReference) else one for one in arguments]
        fetched = [await one if isinstance(one, asyncio.Future) else one for one in fetched]  # another call's answer
        method = getattr(await self._owner.started(), self._name)
        if inspect.iscoroutinefunction(method):
            return await method(*fetched)
        return await asyncio.get_running_loop().run_in_executor(self._owner.thread, method, *fetched)

    async def _messages(self, *arguments: Any) -> AsyncIterator[Awaitable[list[Rollout]]]:
        messages = self._owner.actor.sample(*arguments)

        async def following() -> list[Rollout] | None:
            return await anext(messages, None)

        while (batch := await self._owner.alive(following)) is not None:
            yield asyncio.sleep(0, batch)


class FakeEngines(Engines):
    """Engines in this process.

    Args:
        spec: The engine.
        num_actors: Number of actors.
        builds: Builds the engine of each actor in the order of their creation; the last one builds all further engines.
        late: Set when the actors without a place at the start have one.
        num_late: Number of these actors.
    """

    def __init__(
        self,
        spec: EngineSpec,
        *,
        num_actors: int,
        builds: Sequence[Callable[[EngineSpec], Engine]],
        late: asyncio.Event | None = None,
        num_late: int = 0,
    ) -> None:
        self.created: list[FakeActor] = []
        """All actors in the order of their creation; replacements follow."""
        self._builds = builds

        async def until_placed(place: int) -> None:
            assert late is not None
            await late.wait()

        super().__init__(spec, actor_options=[{}] * num_actors, num_late=num_late, until_placed=until_placed)

    def _create(self, place: int) -> FakeActor:
        build = self._builds[min(len(self.created), len(self._builds) - 1)]
        self.created.append(FakeActor(SamplerActor(self.spec, build)))
        return self.created[-1]

    def _kill(self, actor: FakeActor) -> None:
        actor.die()

    async def store(self, weights: Any) -> Any:
        return weights


class HoldingEngine(FakeEngine):
    """Holds the completions from number `num_free` on until `release` is set, and records its calls."""

    def __init__(self, spec: EngineSpec, release: threading.Event, num_free: int = 0) -> None:
        super().__init__(spec)
        self.calls: list[str] = []
        self._release, self._num_free = release, num_free

    def load(self, weights: Any, run: int = 0) -> Any:
        self.calls.append(f"load {weights.policy.version}")
        return super().load(weights, run)

    def add(self, stream: int, requests: Any, options: Any, policy: Any, run: int = 0) -> None:
        self.calls.append(f"add {len(requests)} of {policy.version}")
        super().add(stream, requests, options, policy, run)

    def step(self) -> list[tuple[int, Rollout]]:
        if self._num_free <= 0 and not self._release.wait(0.001):
            return []
        self._num_free -= 1
        return super().step()
