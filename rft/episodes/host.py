"""What runs on a node: starts processes with environments there, and relays their lines.

A Ray actor makes an `EnvironmentHost` (`rft.cluster.environment_hosts`); this file knows nothing of Ray. The processes
end with it: each sees its socket close.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rft.episodes.local_process import LocalConnection, default_workers, start_process
from rft.episodes.tunnel import Entrance, Frame
from rft.episodes.user_code import UserCode
from rft.waiting import waiting

POLL_S = 5.0
"""Longest time until an answer to `receive`: by its answers the driver knows that the host is alive."""
OUTPUT_BYTES = 1 << 20
"""Most bytes of output in one answer; the rest follows in the next ones."""

Order = tuple[Literal["line", "kill", "frame"], int, bytes]
"""A line for the process with this number; its end; or a frame for the tunnel to the endpoint of the policy."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """What has happened on a host since the last answer.

    Example:
        Arrived(lines=[(0, b'{"score": 3, "value": 1.0}')], ended=[], output=b"", frames=[])
    """

    lines: list[tuple[int, bytes]]
    """Lines of processes, each with the number of its process."""
    ended: list[int]
    """Numbers of the processes that have ended."""
    output: bytes
    """What environments have printed."""
    frames: list[Frame]
    """Frames of the tunnel to the endpoint of the policy."""


class EnvironmentHost:
    """The processes of environments on one node.

    Args:
        folder: Absolute folder on this node for the user's code.
        code: The code.
        variables: Further environment variables of the processes.

    Raises:
        EpisodeError: The folder belongs to another user.
    """

    def __init__(self, folder: str, code: UserCode, variables: Mapping[str, str]) -> None:
        self._working_folder = code.write(Path(folder))
        self._variables = variables
        self._processes: dict[int, LocalConnection] = {}
        self._lines: list[tuple[int, bytes]] = []
        self._ended: list[int] = []
        self._frames: list[Frame] = []
        self._tunnel = Entrance(self._sent)
        self._news = asyncio.Event()
        # Open as long as the host; for appending, because all processes share its position.
        self._output = tempfile.TemporaryFile("a+b")  # noqa: SIM115
        self._read_bytes = 0
        """Bytes of the output that were passed on."""

    async def num_workers(self) -> int:
        """Return the number of processes for this node without `environment.num_workers`."""
        return default_workers()

    async def start(self, number: int, first: Mapping[str, Any]) -> str:
        """Start a process, like `rft.episodes.local_process.start_process`.

        Args:
            number: Its number from now on.
            first: The first line.

        Returns:
            The SHA-256 of the environment.
        """
        connection, sha256 = await start_process(
            first, self._output, folder=self._working_folder, variables=self._variables
        )
        self._processes[number] = connection
        connection.attach(partial(self._received, number), partial(self._lost, number))
        return sha256

    async def open_tunnel(self) -> int:
        """Return the port on this node's loopback that leads to the endpoint of the policy."""
        return await self._tunnel.open()

    async def send(self, orders: Sequence[Order]) -> None:
        """Obey orders one after another. A process that has ended hears nothing."""
        for kind, number, data in orders:
            process = self._processes.get(number)
            if kind == "frame":
                self._tunnel.receive((number, data))
            elif process is None or process.is_lost:
                continue
            elif kind == "kill":
                process.kill()
            else:
                process.write(data)

    async def receive(self) -> Arrived:
        """Wait for news, for at most `POLL_S`, and return all."""
        with waiting("news of environments", deadline_s=POLL_S), suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                await self._news.wait()
        self._news.clear()
        lines, self._lines = self._lines, []
        ended, self._ended = self._ended, []
        frames, self._frames = self._frames, []
        return Arrived(lines, ended, self._printed(), frames)

    async def close(self) -> bytes:
        """End all processes, and return what is left of their output."""
        self._tunnel.close()
        await asyncio.gather(*(process.end() for process in self._processes.values()))
        self._output.seek(self._read_bytes)
        return self._output.read()

    def _received(self, number: int, line: bytes) -> None:
        self._lines.append((number, line))
        self._news.set()

    def _sent(self, frame: Frame) -> None:
        self._frames.append(frame)
        self._news.set()

    def _lost(self, number: int) -> None:
        self._ended.append(number)
        del self._processes[number]
        self._news.set()

    def _printed(self) -> bytes:
        output = os.pread(self._output.fileno(), OUTPUT_BYTES, self._read_bytes)
        self._read_bytes += len(output)
        if len(output) == OUTPUT_BYTES:
            self._news.set()
        return output
