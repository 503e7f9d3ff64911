"""This process's end of `rft.grading.sandbox.inside.serve`: a process that is forked for each program."""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from rft.grading.sandbox.limits import SandboxError

ANSWER_S = 20.0
"""How long the zygote may take to start and to fork."""
END_S = 2.0
"""How long it may take to end before it is killed."""

_MESSAGE_BYTES = 4096
_BOOT = str(Path(__file__).resolve().parent / "inside" / "boot.py")
# No `-I`: it would make string hashes, and with them the order of sets, different in each run. The environment is ours.
_FLAGS = ("-s", "-P", "-S")
_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "LC_ALL": "C.UTF-8",
    # Linear algebra libraries reserve memory for each processor of the machine, more than the limit allows.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
}


class Zygote:
    """One zygote process. It ends with this process, or with `close`.

    Raises:
        OSError: The process could not be started.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_words = ""
        self._control, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(ANSWER_S)
        # The streams are of the kinds that programs get: Python looks at them once, when the interpreter starts.
        with its, tempfile.TemporaryFile() as stdin:
            self._process = subprocess.Popen(
                [os.path.realpath(sys.executable), *_FLAGS, _BOOT, str(its.fileno())],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[its.fileno()],
                cwd="/",
                env=_ENVIRONMENT,
                start_new_session=True,
            )

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, descriptors: Sequence[int]) -> int:
        """Fork a supervisor and return its process id.

        Args:
            descriptors: Those of its order, of its report, and of the program's stdin, stdout and stderr.

        Raises:
            SandboxError: The zygote cannot fork; or it does not answer, and is closed.
        """
        problem = "it has ended"
        try:
            with self._lock:
                socket.send_fds(self._control, [b'{"start": true}'], descriptors)
                answer = self._control.recv(_MESSAGE_BYTES)
        except OSError as error:
            answer, problem = b"", str(error)
        if not answer:
            self.close()
            raise SandboxError(f"the process that is forked for each program failed: {problem}{self._last_words}")
        told = json.loads(answer)
        if "error" in told:
            raise SandboxError(f"the process that is forked for each program: {told['error']}")
        return int(told["pid"])

    def terminate(self, pid: int) -> None:
        """Ask a supervisor to end its program and itself."""
        self._order({"terminate": pid})

    def end(self, pid: int) -> None:
        """Kill what is left of a supervisor's process group, and collect the supervisor."""
        self._order({"end": pid})

    def close(self) -> None:
        """End the process, and every program with it."""
        self._control.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in self._pipes():
            if not pipe.closed:
                last = pipe.read().decode(errors="replace").strip().rpartition("\n")[2]
                self._last_words = f" ({last[:300]})" if last else self._last_words
                pipe.close()

    @property
    def has_ended(self) -> bool:
        """Whether it was closed, or has ended by itself."""
        return self._control.fileno() < 0 or self._process.poll() is not None

    def abandon(self) -> None:
        """Let go of it in a process that was forked from the one that it serves, where it goes on."""
        self._control.close()
        self._process.returncode = 0  # it is no child of this process, which must not wait for it
        for pipe in self._pipes():
            pipe.close()

    def _order(self, order: dict[str, int]) -> None:
        with suppress(OSError), self._lock:  # where the zygote is gone, the supervisor is, too
            self._control.send(json.dumps(order).encode())

    def _pipes(self) -> list[IO[bytes]]:
        return [pipe for pipe in (self._process.stdout, self._process.stderr) if pipe is not None]


class _OfThisProcess:
    """The zygote of this process, started when the first program needs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._zygote: Zygote | None = None

    def get(self) -> Zygote:
        with self._lock:
            if self._zygote is None or self._zygote.has_ended:
                self._zygote = Zygote()
            return self._zygote

    def close(self) -> None:
        if self._zygote is not None:
            self._zygote.close()

    def after_fork(self) -> None:
        if self._zygote is not None:
            self._zygote.abandon()
        self._zygote = None
        self._lock = threading.Lock()  # another thread may have held the old one


_own = _OfThisProcess()
os.register_at_fork(after_in_child=_own.after_fork)


def own_zygote() -> Zygote:
    """Return the zygote of this process, a new one if there is none or the last one has ended.

    Raises:
        OSError: The process could not be started.
    """
    return _own.get()


@atexit.register
def end_own_zygote() -> None:
    """End the zygote of this process, with every program; the next program gets another one."""
    _own.close()
