"""The driver's side of a process that runs environments (`rft.episodes.worker_main`)."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rft.errors import EpisodeError
from rft.grading.processes.worker import Worker
from rft.waiting import wait_for

LOG = "environment.log"
"""File of the run folder with the output of the environment."""
START_S = 300.0
"""Deadline of the start of a process, which imports the environment."""
MAX_LEFT_THREADS = 4
"""Blocking calls of tools that hang in a process beyond their deadline, after which it is replaced."""
END_S = 30.0
"""Deadline of the end of a killed process, and of an answer of a process that need not wait for anything."""


class EnvironmentProcess(Worker):
    """One process, and the messages for each of its episodes.

    Args:
        number: Number of the process.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.inboxes: dict[int, asyncio.Queue[dict[str, Any] | None]] = {}
        """Messages by episode; None after the end of the process."""
        self.process: asyncio.subprocess.Process | None = None
        """The process, once it has been started."""
        self.is_retired = False
        """Whether it is to begin no more episodes, because calls of tools hang in it."""
        self.sha256 = ""
        """SHA-256 of the environment that it has loaded."""

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol: give each line to its episode."""
        super().data_received(data)
        while self.inboxes and (line := self.arrived_line()) is not None:
            message = json.loads(line)
            number = next(iter(message.values()))
            self.is_retired |= message.get("threads", 0) >= MAX_LEFT_THREADS
            if number in self.inboxes:
                self.inboxes[number].put_nowait(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol: every episode of the process has ended."""
        super().connection_lost(exc)
        for inbox in self.inboxes.values():
            inbox.put_nowait(None)

    def send(self, message: dict[str, Any]) -> None:
        """Send a line, unless the process has ended."""
        if not self.is_lost:
            self.write(json.dumps(message).encode() + b"\n")

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

    async def end(self) -> None:
        """Kill the process, and wait for its end."""
        self.kill()
        if self.process is not None:
            what = "a killed process of an environment to end"
            await wait_for(self.process.wait(), what=what, deadline_s=END_S)

    def kill(self) -> None:
        """Kill the process."""
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.kill()
        self.close()


async def started(start: Mapping[str, Any], log: Path | None) -> EnvironmentProcess:
    """Start a process, and wait until it has loaded the environment that its first line names.

    Args:
        start: The first line.
        log: File for the output; None discards it.

    Raises:
        EpisodeError: It ended.
        WaitTimeout: It did not start in time.
    """
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with tempfile.TemporaryFile() if log is None else open(log, "a+b") as output:
        start_of_output = output.seek(0, os.SEEK_END)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-u", "-P", "-m", "rft.episodes.worker_main", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the driver, which finishes the step and needs the environment
            )
        try:
            return await _begun(process, ours, start)
        except ConnectionError as error:
            output.seek(start_of_output)
            said = output.read().decode(errors="replace").strip()
            cause = f": {said.splitlines()[-1]}" if said else ""
            place = "" if log is None else f"; its output is in {log}"
            raise EpisodeError(f"a process for {_what(start)} ended while it started{cause}{place}") from error


async def _begun(
    process: asyncio.subprocess.Process, ours: socket.socket, start: Mapping[str, Any]
) -> EnvironmentProcess:
    """Connect to a process, and wait until it has loaded the environment.

    Raises:
        ConnectionError: It ended.
        WaitTimeout: It did not start in time.
    """
    _, link = await asyncio.get_running_loop().create_connection(lambda: EnvironmentProcess(process.pid), sock=ours)
    link.process = process
    link.send(dict(start))
    try:
        await wait_for(_loaded(link), what=f"{_what(start)} to start", deadline_s=START_S)
    except BaseException:
        link.kill()
        raise
    return link


def _what(start: Mapping[str, Any]) -> str:
    return f"the environment {start['use']}" if start["use"] else f"the tools {', '.join(start['tools'])}"


async def _loaded(link: EnvironmentProcess) -> None:
    if (line := await link.line(START_S)) is not None:
        link.sha256 = json.loads(line)["loaded"]
