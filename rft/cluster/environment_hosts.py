"""Processes of environments on the nodes of the samplers: one Ray actor on each node starts them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.exceptions import RayActorError, RayError

from rft.cluster.host_link import HostConnection, HostLink
from rft.cluster.placement import POLL_S, nodes_now
from rft.cluster.preparation import folder_on_nodes
from rft.config import EvaluateConfig, RunConfig
from rft.episodes.host import EnvironmentHost
from rft.episodes.process import HostLost
from rft.episodes.user_code import UserCode, on_node, variables_of
from rft.errors import EpisodeError, RftError, WaitTimeout
from rft.reliability.stack_traces import write_stacks_on_signal
from rft.sampling.failures import explain
from rft.waiting import blocking, together, wait_for

KILL_S = 10.0
"""Seconds that Ray has to accept that a process is killed."""
MAX_PLACINGS = 5
"""Hosts in one place after which no further one is brought in: the environment may be what ends them."""

Tell = Callable[[str], None]


class HostActor(EnvironmentHost):
    """A host in a process of its own."""

    def __init__(self, folder: str, code: UserCode, variables: Mapping[str, str]) -> None:
        write_stacks_on_signal()
        super().__init__(folder, code, variables)

    async def node_id(self) -> str:
        """Return Ray's id of the node."""
        return str(ray.get_runtime_context().get_node_id())


class Actors(Protocol):
    """Starts and ends the actors of one place."""

    async def start(self) -> tuple[Any, str]:
        """Start an actor, on another node if the former one is gone; return it, and the name of its node.

        Raises:
            EpisodeError: It did not start.
            WaitTimeout: No node had room in time.
        """

    async def end(self, actor: Any) -> None:
        """Kill an actor."""


@dataclass(frozen=True, slots=True)
class RayActors:
    """The actors of one place in the cluster."""

    options: Mapping[str, Any]
    """Ray's options: the node."""
    arguments: tuple[Any, ...]
    """Arguments of `HostActor`."""
    deadline_s: float
    """Seconds until a node has room, and has started the actor."""

    async def start(self) -> tuple[Any, str]:
        """Start an actor, like `Actors.start`. Ray may notice only then that the node is gone."""
        ends_s = time.monotonic() + self.deadline_s
        while True:
            actor = ray.remote(HostActor).options(**self.options).remote(*self.arguments)
            try:
                what = "a node for environments (sampler.replacement_timeout_s)"
                id = await wait_for(actor.node_id.remote(), what=what, deadline_s=ends_s - time.monotonic())
                return actor, next((node.name for node in await nodes_now() if node.id == id), id)
            except RayError as error:
                is_broken = isinstance(error, RayActorError) and error.actor_init_failed
                if is_broken or time.monotonic() + POLL_S >= ends_s:
                    raise EpisodeError(f"environment.placement=samplers: {explain(error)}") from error
                await asyncio.sleep(POLL_S)

    async def end(self, actor: Any) -> None:
        """Kill an actor."""
        with suppress(WaitTimeout):  # without its head, Ray does not return
            await blocking(partial(ray.kill, actor), what="the environments of a node to end", deadline_s=KILL_S)


class NodeHost:
    """A place for processes on a node, with one host after another. Implements `rft.episodes.process.Host`.

    Args:
        actors: The hosts.
        num_workers: Processes that play episodes at the same time; None takes what the node's cores allow.
        log: File for the output of environments.
        tell: Receives the replacement of a host.
        warn: Receives the loss of a host.
    """

    is_drivers = False

    def __init__(self, actors: Actors, *, num_workers: int | None, log: Path, tell: Tell, warn: Tell) -> None:
        self._actors = actors
        self._log, self._tell, self._warn = log, tell, warn
        self.name = ""
        """Name of the node."""
        self.num_workers = num_workers or 0
        """Processes that play episodes at the same time; known once the host is open."""
        self._actor: Any = None
        self._link: HostLink | None = None
        self._replacing: asyncio.Task[None] | None = None
        self._num_placings = self._num_lost = 0
        self._is_logged = True

    async def open(self) -> None:
        """Start the host.

        Raises:
            EpisodeError: It did not start.
            WaitTimeout: It did not start in time.
        """
        self._num_placings += 1
        self._actor, self.name = await self._actors.start()
        if not self.num_workers:
            what = f"node {self.name} to count its cores"
            self.num_workers = await wait_for(self._actor.num_workers.remote(), what=what, deadline_s=KILL_S)
        self._link = HostLink(self._actor, self._lost, self._printed)

    @property
    def is_up(self) -> bool:
        """Whether it can start processes now."""
        return self._link is not None and not self._link.is_lost

    async def up(self) -> None:
        """Wait until a lost host has been replaced.

        Raises:
            EpisodeError: It cannot be replaced.
        """
        if self._replacing is not None:
            await asyncio.shield(self._replacing)

    async def start(self, first: Mapping[str, Any]) -> tuple[HostConnection, str]:
        """Start a process, like `rft.episodes.process.Host.start`."""
        if self._link is None or self._link.is_lost:
            raise HostLost
        return await self._link.start(on_node(first))

    async def reach(self, port: int) -> int:
        """Return the port of the node that leads to a port of the driver, like `rft.episodes.process.Host.reach`."""
        if self._link is None or self._link.is_lost:
            raise HostLost
        return await self._link.reach(port)

    def take_num_lost(self) -> int:
        """Return how often the host was lost since the last call."""
        num_lost, self._num_lost = self._num_lost, 0
        return num_lost

    async def close(self) -> None:
        """End the host and its processes."""
        if self._replacing is not None:
            self._replacing.cancel()
            await asyncio.gather(self._replacing, return_exceptions=True)
        if self._link is not None:
            await self._link.close()
        if self._actor is not None:
            await self._actors.end(self._actor)

    def _lost(self, reason: str) -> None:
        self._num_lost += 1
        self._warn(f"the environments on node {self.name} are gone: {reason}; their episodes begin anew")
        self._replacing = asyncio.create_task(self._replace(reason), name="replacement of a host of environments")

    async def _replace(self, reason: str) -> None:
        """Bring in another host; if that fails, the others go on without it.

        Raises:
            EpisodeError: There were too many hosts, or none could start.
        """
        before = self.name
        try:
            await self._actors.end(self._actor)
            if self._num_placings == MAX_PLACINGS:
                raise EpisodeError(f"{MAX_PLACINGS} hosts have ended in its place, the last one because: {reason}")
            await self.open()
        except (RayError, RftError) as error:
            why = f"node {before} has no environments any more: {explain(error)}"
            self._warn(why)
            raise EpisodeError(why) from error
        self._tell(f"node {self.name} has environments again")

    def _printed(self, output: bytes) -> None:
        """Write what environments printed. A file that cannot be written is told once, and no reason to lose a node."""
        try:
            with self._log.open("ab") as log:
                log.write(output)
        except OSError as error:
            if self._is_logged:
                self._warn(f"{self._log}: {error.strerror}; what environments on {self.name} print now is lost")
            self._is_logged = False
        else:
            self._is_logged = True


async def places_for(
    config: RunConfig | EvaluateConfig, options: Sequence[Mapping[str, Any]], code: UserCode
) -> list[RayActors]:
    """Return a place for a host on each node, after Ray has taken the user's code, of which each node gets one copy.

    Args:
        config: A checked configuration.
        options: Ray's options of an actor on each node.
        code: The code of the environment and the tools.

    Raises:
        WaitTimeout: Ray did not take the code in time.
    """
    deadline_s = config.sampler.replacement_timeout_s
    stored = await blocking(partial(ray.put, code), what="the object store", deadline_s=deadline_s)
    arguments = (folder_on_nodes(config), stored, variables_of(config.tools))
    return [RayActors(each, arguments, deadline_s) for each in options]


@asynccontextmanager
async def environment_hosts(
    places: Sequence[Actors], *, num_workers: int | None, log: Path, tell: Tell, warn: Tell
) -> AsyncIterator[list[NodeHost]]:
    """Start a host in each place for the duration of the block.

    Args:
        places: The hosts of each place.
        num_workers: Processes on each node; None takes what its cores allow.
        log: File for the output of environments.
        tell: Receives the replacements of hosts.
        warn: Receives the losses of hosts.

    Raises:
        EpisodeError: A host did not start.
        WaitTimeout: A host did not start in time.
    """
    hosts = [NodeHost(place, num_workers=num_workers, log=log, tell=tell, warn=warn) for place in places]
    try:
        await together(*(host.open() for host in hosts))
        yield hosts
    finally:
        await asyncio.gather(*(host.close() for host in hosts))
