"""Starts processes that run environments on this machine: the driver's, or the one of an `EnvironmentHost`."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from rft.episodes.process import END_S
from rft.errors import EpisodeError
from rft.grading.processes.worker import Worker
from rft.waiting import wait_for

MAX_DEFAULT_WORKERS = 4
START_S = 300.0
"""Deadline of the start of a process, which imports the environment."""


def default_workers() -> int:
    """Return the number of processes on this machine without `environment.num_workers`."""
    return min(MAX_DEFAULT_WORKERS, max(1, len(os.sched_getaffinity(0)) - 1))


class DriverHost:
    """Starts processes on the driver's machine. Implements `rft.episodes.process.Host`.

    Args:
        num_workers: Processes that play episodes at the same time; None takes `default_workers`.
        log: File for the output of environments; None discards it.
    """

    is_drivers = is_up = True
    name = ""

    def __init__(self, num_workers: int | None, log: Path | None) -> None:
        self.num_workers = num_workers or default_workers()
        """Processes that play episodes at the same time."""
        self._log = log

    async def up(self) -> None:
        """Return at once."""

    async def start(self, first: Mapping[str, Any]) -> tuple[LocalConnection, str]:
        """Start a process, like `rft.episodes.process.Host.start`."""
        with tempfile.TemporaryFile() if self._log is None else open(self._log, "a+b") as output:
            place = "" if self._log is None else f"; its output is in {self._log}"
            return await start_process(first, output, where=place)

    async def reach(self, port: int) -> int:
        """Return the port itself."""
        return port

    def take_num_lost(self) -> int:
        """Return 0: the machine of the driver is lost with the driver."""
        return 0


class LocalConnection(Worker):
    """The connection to a process on this machine. Implements `rft.episodes.process.Connection`."""

    is_host_lost = False

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__(process.pid)
        self._process = process
        self._received: Callable[[bytes], None] | None = None
        self._ended: Callable[[], None] | None = None

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def attach(self, received: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        """Pass on each line from now on, and the end of the process."""
        self._received, self._ended = received, lost
        self._pass_on()
        if self.is_lost:
            lost()

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        super().data_received(data)
        self._pass_on()

    def _pass_on(self) -> None:
        while self._received is not None and (line := self.arrived_line()) is not None:
            self._received(line)

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        super().connection_lost(exc)
        if self._ended is not None:
            self._ended()

    async def settle(self) -> None:
        """Return at once."""

    def kill(self) -> None:
        """Kill the process."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        self.close()

    async def end(self) -> None:
        """Kill the process, and wait for its end."""
        self.kill()
        await wait_for(self._process.wait(), what="a killed process of an environment to end", deadline_s=END_S)


async def start_process(
    first: Mapping[str, Any],
    output: IO[bytes],
    *,
    where: str = "",
    folder: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> tuple[LocalConnection, str]:
    """Start a process, and wait until it has loaded the environment that its first line names.

    Args:
        first: The first line.
        output: File for the output.
        where: What the message of an error says about the output.
        folder: The working directory; None takes that of this process.
        variables: Further environment variables.

    Returns:
        The connection, and the SHA-256 of the environment.

    Raises:
        EpisodeError: It ended.
        WaitTimeout: It did not start in time.
    """
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    start_of_output = output.seek(0, os.SEEK_END)
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-u", "-P", "-m", "rft.episodes.worker_main", str(theirs.fileno())),
            pass_fds=[theirs.fileno()],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env=None if variables is None else {**os.environ, **variables},
            start_new_session=True,  # Ctrl-C is for the driver, which finishes the step and needs the environment
        )
    try:
        return await _begun(process, ours, first)
    except ConnectionError as error:
        output.seek(start_of_output)
        said = output.read().decode(errors="replace").strip()
        cause = f": {said.splitlines()[-1]}" if said else ""
        raise EpisodeError(f"a process for {what_starts(first)} ended while it started{cause}{where}") from error


async def _begun(
    process: asyncio.subprocess.Process, ours: socket.socket, first: Mapping[str, Any]
) -> tuple[LocalConnection, str]:
    """Connect to a process, and wait until it has loaded the environment.

    Raises:
        ConnectionError: It ended.
        WaitTimeout: It did not start in time.
    """
    _, connection = await asyncio.get_running_loop().create_connection(lambda: LocalConnection(process), sock=ours)
    connection.write(json.dumps(first).encode() + b"\n")
    try:
        loaded = connection.line(2 * START_S)  # the wait ends first
        line = await wait_for(loaded, what=f"{what_starts(first)} to start", deadline_s=START_S)
        assert line is not None
        return connection, json.loads(line)["loaded"]
    except BaseException:
        connection.kill()
        raise


def what_starts(first: Mapping[str, Any]) -> str:
    """Name the environment or the tools of a first line."""
    return f"the environment {first['use']}" if first["use"] else f"the tools {', '.join(first['tools'])}"
