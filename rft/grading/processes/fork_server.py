"""Controls `rft.grading.processes.worker_main` from the panel's process: starts workers and keeps their connections."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from rft.errors import GradeError, WaitTimeout
from rft.grading.contract import LoadedGrader
from rft.waiting import wait_for

START_S = 300.0
"""Deadline for the first worker, which is forked after the graders' imports."""
FORK_S = 30.0
END_S = 10.0
"""A process that survives SIGKILL for this long hangs in the kernel and is abandoned."""
MESSAGE_BYTES = 65536
MAX_REPLY_BYTES = 1 << 24
LINE_BYTES = 1 << 16


class Worker(asyncio.Protocol):
    """A worker process, which receives and sends lines."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.misconduct = ""
        """The reason for closing the connection on this side; empty otherwise."""
        self._lines: deque[bytes] = deque()
        self._rest = bytearray()
        self._is_lost = False
        self._news: asyncio.Future[None] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self.output: asyncio.ReadTransport | None = None
        """Receives the graders' output; closes when all processes of the worker have ended."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        self._rest += data
        if b"\n" in data:
            *lines, self._rest = self._rest.split(b"\n")
            self._lines.extend(map(bytes, lines))
        if len(self._rest) > MAX_REPLY_BYTES:
            self.misconduct = f"sent a reply of more than {MAX_REPLY_BYTES >> 20} MiB"
            self.close()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        self._is_lost = True
        self._wake()

    def write(self, data: bytes) -> None:
        """Send lines."""
        assert self._transport is not None
        self._transport.write(data)

    def arrived_line(self) -> bytes | None:
        """Return the next line without its end if it has arrived already, otherwise None."""
        return self._lines.popleft() if self._lines else None

    async def line(self, timeout_s: float) -> bytes | None:
        """Return the next line without its end; None if no line arrives in time.

        Lines that arrive while the event loop is blocked are not late.

        Raises:
            ConnectionError: The worker has ended, and all of its lines are read.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not self._lines and not self._is_lost:  # a long line arrives in several pieces
            self._news = loop.create_future()
            came, _ = await asyncio.wait([self._news], timeout=max(deadline - loop.time(), 0.0))
            if not came:
                break
        if self._lines:
            return self._lines.popleft()
        if self._is_lost:
            raise ConnectionError(f"worker {self.number} has ended")
        return None

    def close(self) -> None:
        """Close the connection; the worker then ends."""
        if self._transport is not None:
            self._transport.abort()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


class _Output(asyncio.Protocol):
    """Receives the output of one worker line by line, so that lines of several workers do not mix.

    Args:
        printed: Called with whole lines; with parts of a line longer than `LINE_BYTES`.
    """

    def __init__(self, printed: Callable[[bytes], None]) -> None:
        self._printed = printed
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        lines, end, self._rest = (self._rest + data).rpartition(b"\n")
        if len(self._rest) > LINE_BYTES:
            lines, end, self._rest = lines + end + self._rest, b"", b""
        if lines:
            self._printed(lines + end)

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        self.flush()

    def flush(self) -> None:
        """Pass on an incomplete last line."""
        if self._rest:
            self._printed(self._rest + b"\n")
            self._rest = b""


class ForkServer:
    """Starts the process that loads the graders and forks workers, and restarts it if it is killed.

    Args:
        graders: The graders that run in workers.
    """

    def __init__(self, graders: Sequence[LoadedGrader]) -> None:
        self._graders = graders
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._listening: asyncio.Task[None] | None = None
        self._workers: dict[int, Worker] = {}
        self._numbers = itertools.count(1)
        self._starting = asyncio.Lock()
        self._warming: asyncio.Task[None] | None = None
        self._cannot_load = ""

    def warm(self) -> None:
        """Start to load the graders, so the first fork need not wait. `fork` reports errors of the loading."""
        if self._graders and self._warming is None:
            self._warming = asyncio.create_task(self._warm(), name="loading of the graders")

    async def _warm(self) -> None:
        with suppress(GradeError, WaitTimeout):
            async with self._starting:
                if self._control is None:
                    await self._start()

    async def fork(self, printed: Callable[[bytes], None]) -> Worker:
        """Fork a worker and return it when it is ready.

        Args:
            printed: Called with whole lines of the graders' output.

        Raises:
            GradeError: The graders cannot be loaded there, or the worker does not start in time.
        """
        async with self._starting:
            if self._cannot_load:  # a second attempt would fail as well
                raise GradeError(self._cannot_load)
            if self._control is None:
                await self._start()
        worker = Worker(next(self._numbers))
        loop = asyncio.get_running_loop()
        connection, remote = socket.socketpair()
        connection.setblocking(False)
        await loop.create_unix_connection(lambda: worker, sock=connection)
        read, write = os.pipe()
        with remote, open(write, "wb") as output:
            worker.output, _ = await loop.connect_read_pipe(lambda: _Output(printed), open(read, "rb", 0))  # noqa: SIM115
            self._workers[worker.number] = worker
            self._order({"fork": worker.number}, remote.fileno(), output.fileno())
        try:
            if await worker.line(FORK_S) is None:
                raise GradeError(f"no worker process for the graders started within {FORK_S:g} s")
        except ConnectionError:
            raise GradeError("the process that forks the graders' worker processes was killed") from None
        except BaseException:
            self.let_go(worker)
            raise
        return worker

    def let_go(self, worker: Worker) -> None:
        """Kill a worker and all of its processes, without waiting for their end."""
        self._order({"kill": worker.number})
        worker.close()

    async def end(self, worker: Worker) -> str:
        """Kill a worker and all of its processes; return how it ended if it had ended before."""
        self.let_go(worker)
        try:
            return await wait_for(worker.ended, what=f"grader worker {worker.number} to end", deadline_s=END_S)
        except WaitTimeout:
            return "hangs in the kernel and cannot be killed"

    def close(self) -> None:
        """End all workers and the process that forks them."""
        if self._warming is not None:
            self._warming.cancel()
        if self._listening is not None:
            self._listening.cancel()
        workers = list(self._workers.values())
        for worker in workers:
            worker.close()
        self._lost("was closed")
        for worker in workers:
            if worker.output is not None:
                _drain(worker.output)

    async def _start(self) -> None:
        connection, remote = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.setblocking(False)
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
            # The GPUs belong to samplers and learner, whose memory a library of a grader would take.
            "CUDA_VISIBLE_DEVICES": "",
        }
        for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
            environment.setdefault(threads, "false" if threads.startswith("TOKENIZERS") else "1")
        with tempfile.TemporaryFile() as entries, remote:
            entries.write(json.dumps({"graders": {grader.name: grader.entry for grader in self._graders}}).encode())
            entries.seek(0)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "rft.grading.processes.worker_main", str(remote.fileno())],
                stdin=entries,
                stdout=2,  # the graders' output goes to the same place as the log
                pass_fds=[remote.fileno()],
                start_new_session=True,
                env=environment,
            )
        self._control = connection
        receiving = asyncio.get_running_loop().sock_recv(connection, MESSAGE_BYTES)
        try:
            message = await wait_for(receiving, what="the graders to be loaded for the workers", deadline_s=START_S)
            self._cannot_load = self._problem(
                json.loads(message or b'{"failed": "the process ended before it was ready"}')
            )
            if self._cannot_load:
                raise GradeError(self._cannot_load)
        except BaseException:
            self._process.kill()
            self._lost("did not start")
            raise
        self._listening = asyncio.create_task(self._listen(connection))

    def _problem(self, hello: dict[str, Any]) -> str:
        """Return why a process with this first message cannot be used; empty if it can."""
        if "failed" in hello:
            return f"the graders cannot be loaded in a worker process: {hello['failed']}"
        changed = [grader for grader in self._graders if hello["loaded"][grader.name] != grader.sha256]
        return "; ".join(
            f"{grader.file} of grader '{grader.name}' has changed since the run began" for grader in changed
        )

    async def _listen(self, control: socket.socket) -> None:
        """Receive the ends of workers until the process itself ends."""
        message = b" "
        while message:
            with suppress(ConnectionError):
                message = await asyncio.get_running_loop().sock_recv(control, MESSAGE_BYTES)
            if message:
                news = json.loads(message)
                worker = self._workers.pop(news["ended"])
                worker.ended.set_result(news["how"])
        self._lost("was killed together with the process that forked it")

    def _order(self, order: dict[str, int], *descriptors: int) -> None:
        if self._control is not None:
            with suppress(OSError):  # the process has ended, which `_listen` notices
                socket.send_fds(self._control, [json.dumps(order).encode()], descriptors)

    def _lost(self, how: str) -> None:
        """Forget the ended process; the next fork starts another one."""
        if self._control is not None:
            self._control.close()
            self._control = None
        for worker in self._workers.values():
            if not worker.ended.done():
                worker.ended.set_result(how)
        self._workers.clear()
        if self._process is not None:
            try:
                self._process.wait(END_S)  # the process ends with its control socket
            except subprocess.TimeoutExpired:
                self._process.kill()


def _drain(output: asyncio.ReadTransport) -> None:
    """Read the remaining lines of an ended worker and close it; a worker that closed its connection has none."""
    if output.is_closing():
        return
    protocol, pipe = output.get_protocol(), output.get_extra_info("pipe")
    assert isinstance(protocol, _Output)
    with suppress(BlockingIOError):
        while data := os.read(pipe.fileno(), MESSAGE_BYTES):
            protocol.data_received(data)
    protocol.flush()
    output.close()


class ForkServers:
    """Fork servers of several panels in one event loop. Panels with the same graders share one."""

    def __init__(self) -> None:
        self._servers: dict[str, ForkServer] = {}

    def of(self, graders: Sequence[LoadedGrader]) -> ForkServer:
        """Return the shared fork server for those of the graders that run in workers."""
        in_workers = [grader for grader in graders if grader.runs_in_worker]
        key = json.dumps([(grader.name, grader.sha256, grader.entry) for grader in in_workers], sort_keys=True)
        return self._servers.setdefault(key, ForkServer(in_workers))

    def close(self) -> None:
        """End all fork servers with their workers."""
        for server in self._servers.values():
            server.close()
