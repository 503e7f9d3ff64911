"""Worker processes for environments: they play episodes, and one that hangs is killed and replaced.

An environment that exceeds its time is cancelled. If its `finally` blocks do not end in time either, or its process
does not answer, the process is killed. The other episodes of that process begin anew, each in a process of its own,
with the same seeds, and therefore with the same turns of the policy.

If the host of a process is lost, no episode is to blame: each begins anew beside others, on a host that is up.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from rft.config.environment import EnvironmentConfig
from rft.config.tools import ToolConfig
from rft.episodes.attempt import NO_SCORE, Attempt, Ending, T, Talk, fault
from rft.episodes.conversation import Conversation
from rft.episodes.endpoint.server import Endpoint
from rft.episodes.endpoint.session import Session
from rft.episodes.local_process import DriverHost
from rft.episodes.process import EnvironmentProcess, Host, HostLost
from rft.errors import EpisodeError
from rft.types import Score, Status, Task
from rft.waiting import together

OPEN_MAX = "environment/open_max/"
"""Beginning of the metrics of nodes."""
MAX_LOST_HOSTS = 3
"""Lost hosts after which an episode is given up: it may be what ends them."""


@dataclass
class _Place:
    """Room for one process on a host."""

    host: Host
    process: EnvironmentProcess | None = None

    @property
    def is_open(self) -> bool:
        """Whether episodes may begin here."""
        return self.process is not None and not self.process.is_lost and not self.process.is_retired


class EnvironmentWorkers:
    """Plays episodes in worker processes, which start when they are first needed.

    Args:
        config: The environment.
        tools: The tools of the run, in place of an environment of the user's.
        tokenizer: The policy's, for environments that reach it as an endpoint; None offers none.
        offered: What MCP servers offered at the start of the run, by entry of `tools`; others are asked.
        fingerprints: Those of the stores that tools search, by entry of `tools`; others are asked.
        lowest: Score of an episode that ends at a limit without a score.
        log: File for the output of environments on the driver's machine; None discards it.
        hosts: Where the processes run; none takes the driver's machine.
    """

    def __init__(
        self,
        config: EnvironmentConfig,
        *,
        tools: Mapping[str, ToolConfig] | None = None,
        offered: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        fingerprints: Mapping[str, str] | None = None,
        tokenizer: Any = None,
        lowest: float = 0.0,
        log: Path | None = None,
        hosts: Sequence[Host] = (),
    ) -> None:
        self._config = config
        self._start = {
            "use": config.use,
            "options": config.options,
            "style": config.style,
            "tools": {name: entry.model_dump() for name, entry in (tools or {}).items()},
            "offered": offered or {},
            "fingerprints": fingerprints or {},
            "max_invalid_calls": config.max_invalid_calls,
            "timeout_s": config.timeout_s,
        }
        self._tokenizer = tokenizer
        self._endpoint: Endpoint | None = None
        self._lowest = lowest
        self._hosts = hosts or (DriverHost(config.num_workers, log),)
        most = max(host.num_workers for host in self._hosts)
        # One place of each host after the other, so that all hosts have work from the beginning.
        self._places = [_Place(host) for number in range(most) for host in self._hosts if number < host.num_workers]
        self._retired: list[EnvironmentProcess] = []
        self._starting = asyncio.Lock()
        self._sha256 = ""
        self._numbers = count()
        self._open: Counter[Host] = Counter()
        self._most_open: Counter[str] = Counter()
        self.num_open = 0
        """Episodes under way."""

    async def start(self) -> None:
        """Start a process on each other node, so that a node that cannot load the environment is known before a step.

        Raises:
            EpisodeError: A node cannot load it.
            WaitTimeout: A node did not load it in time.
        """
        firsts = {place.host: place for place in reversed(self._places) if not place.host.is_drivers}
        await together(*map(self._fill, firsts.values()))

    async def play(self, task: Task, seed: int, begin: Callable[[], T]) -> tuple[Ending, T]:
        """Play one episode, like `rft.episodes.players.Player.play`.

        Raises:
            EpisodeError: The processes end before they can play an episode.
            RftError: The policy could not be sampled.
        """
        self.num_open += 1
        try:
            return await self._play(task, seed, begin)
        finally:
            self.num_open -= 1
            await self._end_retired()

    async def _play(self, task: Task, seed: int, begin: Callable[[], T]) -> tuple[Ending, T]:
        """Play an episode; again if its process or its host was lost, for which it may not be to blame."""
        is_alone, num_lost_hosts = False, 0
        while True:
            async with self._process(is_alone=is_alone) as process:
                talk = begin()
                ending = await self._play_in(process, task, seed, talk)
            if ending is not None:
                return ending, talk
            if process.is_host_lost:
                num_lost_hosts += 1
                if num_lost_hosts == MAX_LOST_HOSTS:
                    return fault(f"the node of its environment was lost {num_lost_hosts} times"), talk
            elif is_alone:
                return fault("it ended its process"), talk
            else:
                is_alone = True

    @asynccontextmanager
    async def _process(self, *, is_alone: bool) -> AsyncIterator[EnvironmentProcess]:
        """Yield the process for an episode: the least busy one, or one in which only this episode can cause its end."""
        process = await (self._own() if is_alone else self._least_busy())
        host = process.host
        self._open[host] += 1
        self._most_open[host.name] = max(self._most_open[host.name], self._open[host])
        try:
            yield process
        finally:
            self._open[host] -= 1
            if is_alone:
                await process.end()

    async def _end_retired(self) -> None:
        """End the retired processes that play no episode any more."""
        idle = [process for process in self._retired if not process.inboxes]
        self._retired = [process for process in self._retired if process.inboxes]
        await asyncio.gather(*(process.end() for process in idle))

    async def _play_in(self, process: EnvironmentProcess, task: Task, seed: int, talk: Talk) -> Ending | None:
        attempt = Attempt(next(self._numbers), process, self._config)
        if self._tokenizer is None or not isinstance(talk, Conversation):
            ending = await attempt.play(task, seed, talk)
        else:
            self._endpoint = self._endpoint or Endpoint(self._tokenizer)
            try:
                port = await process.host.reach(self._endpoint.port)
            except HostLost:
                return None
            with self._endpoint.episode(talk, port) as session:
                ending = _as_told(await attempt.play(task, seed, session), session)
        if ending is not None and ending.is_over:
            reason = "the episode reached a limit"
            if talk.rewarded is not None:
                return replace(ending, score=Score(value=talk.rewarded, reason=reason))
            return replace(ending, score=Score(value=self._lowest, status=Status.NO_ANSWER, reason=reason))
        return ending

    async def _started(self, host: Host) -> EnvironmentProcess:
        """Start a process with the same environment as the first one.

        Raises:
            EpisodeError: It ended, or its file has changed meanwhile.
            HostLost: The host was lost meanwhile.
        """
        connection, sha256 = await host.start(self._start)
        process = EnvironmentProcess(connection, host, sha256)
        self._sha256 = self._sha256 or process.sha256
        if process.sha256 != self._sha256:
            await process.end()
            what = self._config.use or "the tools"
            raise EpisodeError(
                f"the code of {what} has changed since the run began, so some episodes would be others; bring it back "
                "and resume the run, or begin a new one"
            )
        return process

    async def _fill(self, place: _Place) -> None:
        """Start a process in a place, unless its host is lost meanwhile."""
        with suppress(HostLost):
            place.process = await self._started(place.host)

    async def _own(self) -> EnvironmentProcess:
        """Start a process on the host with the fewest episodes."""
        while True:
            host = min(await self._hosts_up(), key=lambda host: self._open[host])
            with suppress(HostLost):
                return await self._started(host)

    async def _least_busy(self) -> EnvironmentProcess:
        """Return the process with the fewest episodes on the host with the fewest; fill an empty place first."""
        async with self._starting:
            while True:
                await self._hosts_up()
                for place in self._places:
                    if place.process is not None and place.process.is_retired:
                        self._retired.append(place.process)
                        place.process = None
                    if place.host.is_up and not place.is_open:
                        await self._fill(place)
                        break
                if usable := [place.process for place in self._places if place.process is not None and place.is_open]:
                    return min(usable, key=lambda process: (self._open[process.host], len(process.inboxes)))

    async def _hosts_up(self) -> list[Host]:
        """Wait until a host is up, and return all that are.

        Raises:
            EpisodeError: None will be up again.
        """
        while not (up := [host for host in self._hosts if host.is_up]):
            waits = [asyncio.ensure_future(host.up()) for host in self._hosts]
            try:
                await _first_success(waits)
            finally:
                for wait in waits:
                    wait.cancel()
        return up

    @property
    def pids(self) -> list[int]:
        """Numbers of the running processes on the driver's machine."""
        return [process.pid for process in self._present if process.pid is not None]

    async def count_left(self) -> int:
        """Return the number of episodes, and of tasks that episodes started, that run although the run has ended them.

        Raises:
            WaitTimeout: A process does not answer.
        """
        return sum(await asyncio.gather(*(each.count_left(next(self._numbers)) for each in self._present)))

    @property
    def _present(self) -> list[EnvironmentProcess]:
        all_of_them = (*(place.process for place in self._places), *self._retired)
        return [process for process in all_of_them if process is not None and not process.is_lost]

    def metrics(self) -> dict[str, float]:
        """Return what has happened since the last call.

        Returns:
            `endpoint/...`, what became of the requests of agents; of processes on other nodes also
            `environment/open_max/<node>`, the most episodes that were open there at the same time, and
            `recovery/environment_hosts`, how often a host was lost.
        """
        metrics = self._endpoint.metrics() if self._endpoint is not None else {}
        metrics |= {f"{OPEN_MAX}{_plain(name)}": float(most) for name, most in self._most_open.items() if name}
        self._most_open = Counter({host.name: self._open[host] for host in self._hosts})
        if num_lost := sum(host.take_num_lost() for host in self._hosts):
            metrics["recovery/environment_hosts"] = float(num_lost)
        return metrics

    async def close(self) -> None:
        """End all processes, and the endpoint."""
        if self._endpoint is not None:
            await self._endpoint.close()
        all_of_them = (*(place.process for place in self._places), *self._retired)
        await asyncio.gather(*(process.end() for process in all_of_them if process is not None))


async def _first_success(waits: Sequence[asyncio.Future[None]]) -> None:
    """Wait until one of several waits returns.

    Raises:
        EpisodeError: All of them failed; the error says why.
    """
    reasons = []
    for wait in asyncio.as_completed(waits):
        try:
            return await wait
        except EpisodeError as error:
            reasons.append(str(error))
    raise EpisodeError("; ".join(reasons))


def _plain(name: str) -> str:
    """Return the name of a node without characters that trackers refuse, such as those of `127.0.0.1 (598714)`."""
    return re.sub("[^A-Za-z0-9._-]+", "_", name).strip("_")


def _as_told(ending: Ending | None, session: Session) -> Ending | None:
    """Return the end of an episode with regard to what the endpoint has seen.

    Raises:
        RftError: The policy could not be sampled.
    """
    if session.failed.done() and not session.failed.cancelled():
        session.failed.result()
    if ending is not None and session.fork:
        return fault(session.fork, ending.traceback)
    if ending is None or not session.limit or not ending.is_refused:
        return ending  # also a timeout or an error after a limit, which are faults of the environment
    # A client raises its own error at a limit, which environments let through like `EpisodeOver`.
    return Ending(NO_SCORE, is_over=True, traceback=ending.traceback)
