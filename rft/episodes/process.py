"""One process that runs environments (`rft.episodes.worker_main`), as the driver sees it, wherever it runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rft.waiting import wait_for

LOG = "environment.log"
"""File of the run folder with the output of the environment."""
MAX_LEFT_THREADS = 4
"""Blocking calls of tools that hang in a process beyond their deadline, after which it is replaced."""
END_S = 30.0
"""Deadline of the end of a killed process, and of an answer of a process that need not wait for anything."""


class HostLost(Exception):
    """The host was lost before it had answered."""


class Connection(Protocol):
    """Carries lines between the driver and a process."""

    @property
    def is_lost(self) -> bool:
        """Whether the process has ended."""

    @property
    def is_host_lost(self) -> bool:
        """Whether it ended because its host was lost, so that no episode is to blame."""

    @property
    def pid(self) -> int | None:
        """Number of the process, if it runs on the driver's machine."""

    def attach(self, received: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        """Pass on each line without its end, and the end of the process.

        Args:
            received: Receives the lines.
            lost: Called at the end.
        """

    def write(self, data: bytes) -> None:
        """Send lines."""

    async def settle(self) -> None:
        """Return when it is known whether the host is lost now."""

    def kill(self) -> None:
        """Kill the process."""

    async def end(self) -> None:
        """Kill the process, and wait for its end.

        Raises:
            WaitTimeout: It does not end.
        """


class Host(Protocol):
    """Starts processes on one node: the driver's machine, or another one."""

    num_workers: int
    """Processes that play episodes at the same time."""
    name: str
    """Name of the node; empty for the driver's machine."""

    @property
    def is_drivers(self) -> bool:
        """Whether its node is the driver's machine."""

    @property
    def is_up(self) -> bool:
        """Whether it can start processes now."""

    async def up(self) -> None:
        """Wait until it can start processes.

        Raises:
            EpisodeError: It never will again.
        """

    async def start(self, first: Mapping[str, Any]) -> tuple[Connection, str]:
        """Start a process, and wait until it has loaded the environment that its first line names.

        Args:
            first: The first line.

        Returns:
            The connection, and the SHA-256 of the environment.

        Raises:
            EpisodeError: The process ended.
            HostLost: The host was lost meanwhile.
            WaitTimeout: The process did not start in time.
        """

    async def reach(self, port: int) -> int:
        """Return the port on loopback of the node that leads to a port on loopback of the driver's machine.

        Args:
            port: The port of the driver, always the same.

        Raises:
            HostLost: The host is lost.
        """

    def take_num_lost(self) -> int:
        """Return how often the host was lost since the last call."""


class EnvironmentProcess:
    """The messages for each episode of a process.

    Args:
        connection: The connection to it.
        host: Where it runs.
        sha256: SHA-256 of the environment that it has loaded.
    """

    def __init__(self, connection: Connection, host: Host, sha256: str) -> None:
        self._connection = connection
        self.host = host
        """Where it runs."""
        self.sha256 = sha256
        """SHA-256 of the environment that it has loaded."""
        self.inboxes: dict[int, asyncio.Queue[dict[str, Any] | None]] = {}
        """Messages by episode; None after the end of the process."""
        self.is_retired = False
        """Whether it is to begin no more episodes, because calls of tools hang in it."""
        connection.attach(self._received, self._ended)

    @property
    def is_lost(self) -> bool:
        """Whether the process has ended."""
        return self._connection.is_lost

    @property
    def is_host_lost(self) -> bool:
        """Whether it ended because its host was lost."""
        return self._connection.is_host_lost

    @property
    def pid(self) -> int | None:
        """Number of the process, if it runs on the driver's machine."""
        return self._connection.pid

    def _received(self, line: bytes) -> None:
        message = json.loads(line)
        number = next(iter(message.values()))
        self.is_retired |= message.get("threads", 0) >= MAX_LEFT_THREADS
        if number in self.inboxes:
            self.inboxes[number].put_nowait(message)

    def _ended(self) -> None:
        for inbox in self.inboxes.values():
            inbox.put_nowait(None)

    def send(self, message: dict[str, Any]) -> None:
        """Send a line, unless the process has ended."""
        if not self.is_lost:
            self._connection.write(json.dumps(message).encode() + b"\n")

    async def count_left(self, number: int) -> int:
        """Return the number of episodes and tasks that run although their episode has ended; 0 if the process has.

        Raises:
            WaitTimeout: The process does not answer.
        """
        inbox = self.inboxes[number] = asyncio.Queue()
        self.send({"count": number})
        try:
            what = "a process of the environment to count its open episodes"
            counted = None if self.is_lost else await wait_for(inbox.get(), what=what, deadline_s=END_S)
        finally:
            known = set(self.inboxes)
            del self.inboxes[number]
        return 0 if counted is None else counted["left"] + len(set(counted["under_way"]) - known)

    async def settle(self) -> None:
        """Return when it is known whether its host is lost now."""
        await self._connection.settle()

    def kill(self) -> None:
        """Kill the process."""
        self._connection.kill()

    async def end(self) -> None:
        """Kill the process, and wait for its end.

        Raises:
            WaitTimeout: It does not end.
        """
        await self._connection.end()
