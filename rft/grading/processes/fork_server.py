"""Controls `rft.grading.processes.worker_main` from the panel's process: starts, ends and replaces workers."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from rft.errors import GradeError, WaitTimeout
from rft.grading.contract import LoadedGrader
from rft.grading.processes.ends import FOREIGN_SIGNALS, End, is_suspended
from rft.grading.processes.worker import MESSAGE_BYTES, Output, Worker, drain
from rft.redaction import revealed
from rft.waiting import wait_for

START_S = 300.0
"""Deadline for the first worker, which is forked after the graders' imports."""
FORK_S = 30.0
FORK_ATTEMPTS = 2
END_S = 10.0
"""A process that survives SIGKILL for this long hangs in the kernel and is abandoned."""


class ForkServer:
    """Starts the process that loads the graders and forks workers, and restarts it if it is killed or hangs.

    Args:
        graders: The graders that run in workers.
        worker_memory_mb: Memory in MiB that a worker may use beyond the loaded graders; None sets no limit.
    """

    def __init__(self, graders: Sequence[LoadedGrader], worker_memory_mb: int | None = None) -> None:
        self._graders = graders
        self._worker_memory_mb = worker_memory_mb
        self._folder = os.getcwd()  # a grader in this process may change it later
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
        """Fork a worker and return it when it is ready. If the process that forks hangs or is killed, replace it.

        Args:
            printed: Called with whole lines of the graders' output.

        Raises:
            GradeError: The graders cannot be loaded there, or no worker starts.
        """
        reason = ""
        for _ in range(FORK_ATTEMPTS):
            worker = await self._forked(printed)
            process, listening = self._process, self._listening
            try:
                if await worker.line(FORK_S) is not None:
                    return worker
            except ConnectionError:
                reason = (await self.end(worker)).how
                continue
            except BaseException:
                self.let_go(worker)
                raise
            reason = f"did not start within {FORK_S:g} s"
            await _kill(process, listening)
        raise GradeError(f"a worker process for the graders {reason} ({FORK_ATTEMPTS} attempts)")

    async def _forked(self, printed: Callable[[bytes], None]) -> Worker:
        """Order a worker, which is ready when it sends its first line."""
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
            worker.output, _ = await loop.connect_read_pipe(lambda: Output(printed), open(read, "rb", 0))  # noqa: SIM115
            self._workers[worker.number] = worker
            self._order({"fork": worker.number}, remote.fileno(), output.fileno())
        return worker

    def let_go(self, worker: Worker) -> None:
        """Kill a worker and all of its processes, without waiting for their end."""
        self._order({"kill": worker.number})
        worker.close()

    async def end(self, worker: Worker) -> End:
        """Kill a worker and all of its processes; return how it ended if it had ended before."""
        process, listening = self._process, self._listening
        self.let_go(worker)
        try:
            # The wait must not cancel the future, which `_listen` sets.
            ended = asyncio.shield(worker.ended)
            return await wait_for(ended, what=f"grader worker {worker.number} to end", deadline_s=END_S)
        except WaitTimeout:
            if process is not None and is_suspended(process.pid):
                await _kill(process, listening)
                return End("was killed with the suspended process that forked it", from_outside=True)
            return End("hangs in the kernel and cannot be killed", from_outside=False)

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
                drain(worker.output)

    async def _start(self) -> None:
        """Start the process and wait until it has loaded the graders; repeat this once if something else ended it.

        Raises:
            GradeError: The graders cannot be loaded there.
            WaitTimeout: They are not loaded in time.
        """
        for attempt in range(1, FORK_ATTEMPTS + 1):
            process = self._process = self._started()
            assert self._control is not None
            receiving = asyncio.get_running_loop().sock_recv(self._control, MESSAGE_BYTES)
            try:
                message = await wait_for(receiving, what="the graders to be loaded for the workers", deadline_s=START_S)
            except BaseException as error:
                suspended = is_suspended(process.pid)
                process.kill()
                self._lost("did not start")
                if isinstance(error, WaitTimeout) and suspended and attempt < FORK_ATTEMPTS:
                    continue
                raise
            if not message:
                self._lost("did not start")
                if process.returncode in {-number for number in FOREIGN_SIGNALS} and attempt < FORK_ATTEMPTS:
                    continue
            self._cannot_load = self._problem(
                json.loads(message or b'{"failed": "the process ended before it was ready"}')
            )
            if self._cannot_load:
                process.kill()
                self._lost("did not start")
                raise GradeError(self._cannot_load)
            self._listening = asyncio.create_task(self._listen(self._control))
            return

    def _started(self) -> subprocess.Popen[bytes]:
        """Start the process, with its graders as its stdin."""
        control, remote = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.setblocking(False)
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(path or self._folder for path in sys.path),
            # The GPUs belong to samplers and learner, whose memory a library of a grader would take.
            "CUDA_VISIBLE_DEVICES": "",
        }
        for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
            environment.setdefault(threads, "false" if threads.startswith("TOKENIZERS") else "1")
        start = {
            "graders": {grader.name: revealed(grader.entry) for grader in self._graders},
            "worker_memory_mb": self._worker_memory_mb,
        }
        with tempfile.TemporaryFile() as order, remote:
            order.write(json.dumps(start).encode())
            order.seek(0)
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "rft.grading.processes.worker_main", str(remote.fileno())],
                stdin=order,
                stdout=2,  # the graders' output goes to the same place as the log
                pass_fds=[remote.fileno()],
                start_new_session=True,
                cwd=self._folder,
                env=environment,
            )
        self._control = control
        return process

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
        with suppress(ConnectionError):  # the process was killed before it had read all orders
            while message := await asyncio.get_running_loop().sock_recv(control, MESSAGE_BYTES):
                news = json.loads(message)
                self._workers.pop(news["ended"]).ended.set_result(End(news["how"], news["from_outside"]))
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
                worker.ended.set_result(End(how, from_outside=True))
        self._workers.clear()
        if self._process is not None:
            try:
                self._process.wait(END_S)  # the process ends with its control socket
            except subprocess.TimeoutExpired:
                self._process.kill()


async def _kill(process: subprocess.Popen[bytes] | None, listening: asyncio.Task[None] | None) -> None:
    """Kill a process that forks workers; its workers end with it, and the next fork starts another one."""
    if process is not None and listening is not None:
        process.kill()
        await asyncio.wait({listening}, timeout=END_S)


class ForkServers:
    """Fork servers of several panels in one event loop. Panels with the same graders and limit share one."""

    def __init__(self) -> None:
        self._servers: dict[str, ForkServer] = {}

    def of(self, graders: Sequence[LoadedGrader], worker_memory_mb: int | None) -> ForkServer:
        """Return the shared fork server for those of the graders that run in workers."""
        in_workers = [grader for grader in graders if grader.runs_in_worker]
        entries = [(grader.name, grader.sha256, revealed(grader.entry)) for grader in in_workers]
        key = json.dumps([worker_memory_mb, entries], sort_keys=True)
        return self._servers.setdefault(key, ForkServer(in_workers, worker_memory_mb))

    def close(self) -> None:
        """End all fork servers with their workers."""
        for server in self._servers.values():
            server.close()
