"""Controls `rft.grading.sandbox.inside.serve` from this process: a process that is forked for each program."""

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
"""Time limit for the zygote's start and for a fork."""
END_S = 2.0
"""Time limit for its end, before it is killed."""

_MESSAGE_BYTES = 4096
_BOOT = str(Path(__file__).resolve().parent / "inside" / "boot.py")
# Without `-I`, which would randomize string hashes, and so the order of sets. rft sets the environment.
_FLAGS = ("-s", "-P", "-S")
_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "LC_ALL": "C.UTF-8",
    # Linear algebra libraries reserve memory for each processor, which would exceed the limit.
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
        # The streams have the same kinds as a program's streams: Python inspects them once, at the interpreter's start.
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
            descriptors: Descriptors of its order, of its report, and of the program's stdin, stdout and stderr.

        Raises:
            SandboxError: The zygote cannot fork, or it did not answer and was closed.
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
        reply = json.loads(answer)
        if "error" in reply:
            raise SandboxError(f"the process that is forked for each program: {reply['error']}")
        return int(reply["pid"])

    def terminate(self, pid: int) -> None:
        """Ask a supervisor to end its program and itself."""
        self._order({"terminate": pid})

    def end(self, pid: int) -> None:
        """Kill the remaining processes of a supervisor's group, and collect the supervisor."""
        self._order({"end": pid})

    def close(self) -> None:
        """End the process and all of its programs."""
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
        """Whether the process was closed or has ended."""
        return self._control.fileno() < 0 or self._process.poll() is not None

    def abandon(self) -> None:
        """Release the zygote in a process that was forked from its owner; the owner keeps it."""
        self._control.close()
        self._process.returncode = 0  # it is not a child of this process, which must not wait for it
        for pipe in self._pipes():
            pipe.close()

    def _order(self, order: dict[str, int]) -> None:
        with suppress(OSError), self._lock:  # without the zygote, the supervisor has ended as well
            self._control.send(json.dumps(order).encode())

    def _pipes(self) -> list[IO[bytes]]:
        return [pipe for pipe in (self._process.stdout, self._process.stderr) if pipe is not None]


class _OfThisProcess:
    """The zygote of this process; the first program starts it."""

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
        self._lock = threading.Lock()  # another thread may have held the old lock


_zygotes = _OfThisProcess()
os.register_at_fork(after_in_child=_zygotes.after_fork)


def process_zygote() -> Zygote:
    """Return the zygote of this process; start one if there is none or the last one has ended.

    Raises:
        OSError: The process could not be started.
    """
    return _zygotes.get()


@atexit.register
def end_process_zygote() -> None:
    """End the zygote of this process and all of its programs; the next program starts another one."""
    _zygotes.close()
