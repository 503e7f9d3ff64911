"""The process that forks worker processes, and the workers.

    python -P -m rft.grading.processes.worker_main <number of the control socket>

`rft.grading.processes.fork_server` starts it. It reads the graders' entries from stdin and loads the graders once;
forking a worker then takes milliseconds, however long the imports take. Commands on the control socket fork workers
(each with a socket and a pipe for the graders' output) and kill them; messages on it report ended workers. The process
has one thread, so it may fork. It ends together with the process that started it.
"""

from __future__ import annotations

import ctypes
import gc
import inspect
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from rft.errors import ConfigError
from rft.grading.contract import LoadedGrader
from rft.grading.loading.registry import load_grader
from rft.grading.normalise import describe_error, failed, outcome, traceback_of
from rft.grading.processes.ends import FOREIGN_SIGNALS, End, is_suspended
from rft.grading.processes.wire import decode_call, encode_scores
from rft.types import Score, Status

MESSAGE_BYTES = 65536
LOAD_LIMIT_S = 300
"""The kernel ends this process after this time if an import never ends."""
PARENT_CHECK_S = 1.0
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def main() -> NoReturn:
    """Load the graders and serve until the other end closes the control socket."""
    parent = os.getppid()
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    signal.alarm(LOAD_LIMIT_S)
    with open(0, "rb", closefd=False) as entries:
        start = json.load(entries)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        graders = _load(start["graders"])
    except Exception as error:
        reason = "; ".join(error.problems) if isinstance(error, ConfigError) else describe_error(error, __file__)
        control.send(json.dumps({"failed": reason[: MESSAGE_BYTES // 8]}).encode())
        os._exit(1)
    signal.alarm(0)
    gc.freeze()  # workers share this memory; untouched reference counts keep it shared
    server = _ForkServer(control, graders, parent, start["worker_memory_mb"])
    control.send(json.dumps({"loaded": {name: grader.sha256 for name, grader in graders.items()}}).encode())
    try:
        server.serve()
    finally:
        server.end_all()
        os._exit(0)


def _load(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, LoadedGrader]:
    graders = {name: load_grader(name, entry) for name, entry in entries.items()}
    for grader in graders.values():
        warm_up = getattr(getattr(grader.call, "__self__", None), "warm_up", None)
        if callable(warm_up):
            warm_up()
    return graders


class _ForkServer:
    """Forks and kills workers, and leaves no process of an ended worker behind."""

    def __init__(
        self, control: socket.socket, graders: Mapping[str, LoadedGrader], parent: int, worker_memory_mb: int | None
    ) -> None:
        self._control = control
        self._graders = graders
        self._parent = parent
        self._worker_memory_mb = worker_memory_mb
        self._folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        self._numbers: dict[int, int] = {}  # worker's number by its process id
        self._killed: dict[int, bool] = {}  # whether a worker was suspended when it was killed, by its process id
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._spared = self._children()  # processes that the graders' imports started
        self._woken, self._wake = socket.socketpair()
        for end in (self._woken, self._wake):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        while os.getppid() == self._parent:
            readable, _, _ = select.select([self._control, self._woken], [], [], PARENT_CHECK_S)
            if self._woken in readable:
                self._woken.recv(MESSAGE_BYTES)
            if self._control in readable:
                message, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES, 2)
                if not message:
                    return
                order = json.loads(message)
                if "fork" in order:
                    self._fork(order["fork"], socket.socket(fileno=descriptors[0]), output=descriptors[1])
                else:
                    self._kill(order["kill"])
            self._bury()

    def end_all(self) -> None:
        for process in self._numbers:
            _kill_group(process)
        self._kill_strays(sparing=set())

    def _fork(self, number: int, connection: socket.socket, output: int) -> None:
        server = os.getpid()
        try:
            process = os.fork()
        except OSError as error:  # the limit of processes, or of memory
            os.close(output)
            connection.close()
            self._report(number, End(f"could not be started: {error.strerror}", from_outside=True))
            return
        if process == 0:
            try:
                self._become_worker(server)
                for stream in (1, 2):  # the graders' output
                    os.dup2(output, stream)
                os.close(output)
                _work(connection, self._graders, self._folder)
            finally:
                os._exit(0)
        with suppress(OSError):  # the first of both processes creates the group
            os.setpgid(process, process)
        connection.close()
        os.close(output)
        self._numbers[process] = number

    def _become_worker(self, server: int) -> None:
        with suppress(OSError):
            os.setpgid(0, 0)
        self._libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != server:
            os._exit(0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in (self._control, self._woken, self._wake):
            end.close()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if self._worker_memory_mb is not None:
            _limit_memory(self._worker_memory_mb)
        with suppress(OSError):  # if memory runs out, the kernel kills the worker, not the run
            Path("/proc/self/oom_score_adj").write_text("1000")

    def _kill(self, number: int) -> None:
        for process, known in self._numbers.items():
            if known == number:
                if (suspended := is_suspended(process)) is not None:
                    self._killed.setdefault(process, suspended)
                _kill_group(process)

    def _bury(self) -> None:
        """Kill the remaining processes of ended workers, and report how each worker ended."""
        while True:
            try:
                # An ended leader keeps its process id from reuse until its group is killed.
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            number = self._numbers.pop(ended.si_pid, None)
            if number is not None:
                _kill_group(ended.si_pid)
            _, status = os.waitpid(ended.si_pid, 0)
            if number is not None:
                self._kill_strays(sparing=self._spared | set(self._numbers))
                self._report(number, _end(status, self._killed.pop(ended.si_pid, None)))

    def _report(self, number: int, end: End) -> None:
        self._control.send(json.dumps({"ended": number, "how": end.how, "from_outside": end.from_outside}).encode())

    def _kill_strays(self, sparing: set[int]) -> None:
        """Kill the processes that a worker started outside its group, which became children of this process."""
        while strays := self._children() - sparing:
            for process in strays:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                with suppress(ChildProcessError):
                    os.waitpid(process, 0)

    def _children(self) -> set[int]:
        try:
            return {int(child) for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}
        except OSError:  # a kernel without this list
            return set()


def _kill_group(process: int) -> None:
    for kill in (os.killpg, os.kill):  # the group may not exist yet or no longer
        with suppress(ProcessLookupError, PermissionError):
            kill(process, signal.SIGKILL)


def _end(status: int, was_suspended: bool | None) -> End:
    """Describe the end of a worker.

    Args:
        status: From `os.waitpid`.
        was_suspended: For a worker that this process killed, whether it was suspended; None for any other.
    """
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return End(f"ended itself with exit code {code}", from_outside=False)
    foreign = -code in FOREIGN_SIGNALS if was_suspended is None else was_suspended
    return End(f"was ended by {signal.Signals(-code).name}", from_outside=foreign)


def _limit_memory(more_mb: int) -> None:
    """Limit the memory of this process; beyond the limit an allocation fails, so Python raises MemoryError.

    The limit covers private memory. Unlike the address space, that excludes reservations of libraries.
    """
    pages = int(Path("/proc/self/statm").read_text().split()[5])  # data and stack
    limit = pages * resource.getpagesize() + (more_mb << 20)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _work(connection: socket.socket, graders: Mapping[str, LoadedGrader], folder: int) -> None:
    """Serve calls one after another until the other end closes. Each begins in the folder of this descriptor."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it may be killed at any time
    connection.sendall(b"\n")
    for line in connection.makefile("rb"):
        connection.sendall(_answer(line, graders))
        os.fchdir(folder)


def _answer(line: bytes, graders: Mapping[str, LoadedGrader]) -> bytes:
    grader, arguments, count = decode_call(line, graders)
    started = time.perf_counter()
    scores: list[Score]
    traceback = ""
    try:
        result = grader.call(**arguments)
        if inspect.isawaitable(result):
            import asyncio  # a fifth of a worker's import time, and graders hardly need it

            result = asyncio.run(_awaited(result))
        scores = outcome(result, count=count, per_group=grader.per_group)
    except BaseException as error:  # includes sys.exit(); only an immediate end of the process costs a worker
        scores = failed(Status.GRADER_ERROR, describe_error(error, grader.file), count)
        traceback = traceback_of(error)
    return encode_scores(scores, time.perf_counter() - started, traceback)


async def _awaited(result: Any) -> Any:
    return await result


if __name__ == "__main__":
    main()
