"""Starts a program at a rung, reads its output, and ends it."""

from __future__ import annotations

import json
import os
import secrets
import selectors
import signal
import socket
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from rft.grading.sandbox.limits import Limits, SandboxError, SandboxResult
from rft.grading.sandbox.zygote import Zygote
from rft.reliability.temporary import temporary_folder
from rft.waiting import waiting

STARTUP_S = 20.0
"""Time limit for starting and ending, in addition to the program's time."""
END_S = 2.0
"""Time for a supervisor to end its program, before its whole process group is killed."""
STDERR_TAIL_BYTES = 4000


@dataclass(slots=True)
class _Run:
    """A running program."""

    parent: Zygote
    supervisor: int
    cap: int
    deadline: float
    output: dict[str, bytearray] = field(default_factory=lambda: {"stdout": bytearray(), "stderr": bytearray()})
    reports: bytearray = field(default_factory=bytearray)
    truncated: bool = False
    is_ending: bool = False
    """Whether the supervisor has been asked to end."""


def launch(
    parent: Zygote,
    rung: int,
    source: str,
    stdin: str,
    *,
    limits: Limits,
    packages: bool = False,
    channel: socket.socket | None = None,
) -> tuple[SandboxResult, list[str]]:
    """Run a program at a rung.

    Args:
        parent: The process that forks the program's process.
        rung: 0, 1 or 2.
        source: The program in Python.
        stdin: The program's stdin.
        limits: The program's limits.
        packages: Whether it may import installed packages in addition to the standard library.
        channel: One end of a channel to another program. It is closed here, so each program notices the other's end.

    Returns:
        The program's result, and descriptions of the walls.

    Raises:
        SandboxError: The rung does not work on this machine; the program did not run.
    """
    started = time.monotonic()
    with ExitStack() as cleaning:
        if channel is not None:
            cleaning.enter_context(channel)
        base = cleaning.enter_context(temporary_folder("sandbox"))
        order = {"rung": rung, "source": source, "base": str(base), "uid": _unused_uid()}
        order["packages"] = site_packages() if packages else []
        with _spool(json.dumps({**order, **asdict(limits)})) as order_file, _spool(stdin) as stdin_file:
            run = _start_and_read(parent, order_file, stdin_file, limits, channel)
    records = _records(run.reports)
    if "walls" not in records:
        raise SandboxError(
            f"a program could not be started at rung {rung}: {records.get('error', 'its process ended')}"
            f"{_tail(run.output['stderr'])}"
        )
    return (
        SandboxResult(
            stdout=run.output["stdout"][: limits.output_bytes].decode(errors="replace"),
            stderr_tail=run.output["stderr"][-STDERR_TAIL_BYTES:].decode(errors="replace"),
            exit_code=records.get("exit_code", -signal.SIGKILL),
            timed_out=records.get("timed_out", False),
            truncated=run.truncated,
            rung=rung,
            seconds=records.get("seconds", time.monotonic() - started),
        ),
        records["walls"],
    )


def _start_and_read(
    parent: Zygote, order: IO[bytes], stdin: IO[bytes], limits: Limits, channel: socket.socket | None
) -> _Run:
    with ExitStack() as ours, ExitStack() as theirs:
        ends = {}
        for name in ("report", "stdout", "stderr"):
            read, write = os.pipe()
            ours.callback(os.close, read)
            theirs.callback(os.close, write)
            ends[name] = (read, write)
        descriptors = [order.fileno(), ends["report"][1], stdin.fileno(), ends["stdout"][1], ends["stderr"][1]]
        if channel is not None:
            theirs.callback(channel.close)
            descriptors.append(channel.fileno())
        supervisor = parent.start(descriptors)
        theirs.close()
        run = _Run(parent, supervisor, limits.output_bytes, time.monotonic() + limits.wall_s + STARTUP_S)
        try:
            with waiting("a sandboxed program", deadline_s=limits.wall_s + STARTUP_S):
                _read(run, {name: read for name, (read, _) in ends.items()})
        finally:
            parent.end(supervisor)
    return run


def _read(run: _Run, streams: Mapping[str, int]) -> None:
    """Read until the supervisor has ended; end it at the deadline or at the output limit."""
    with selectors.DefaultSelector() as selector:
        for name, descriptor in streams.items():
            selector.register(descriptor, selectors.EVENT_READ, name)
        supervised = True
        while selector.get_map():
            left_s = run.deadline - time.monotonic() if supervised else 0.0
            ready = selector.select(max(left_s, 0.0))
            if not ready or left_s < 0:
                if run.is_ending or not supervised:
                    return
                _end(run)
            elif run.truncated and not supervised:
                return  # a process that still prints has escaped and may never end
            for key, _ in ready:
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fileobj)
                    supervised = supervised and key.data != "report"
                elif key.data == "report":
                    run.reports += chunk
                else:
                    _keep(run, key.data, chunk)


def _keep(run: _Run, stream: str, chunk: bytes) -> None:
    if not run.truncated:
        run.output[stream] += chunk
    if len(run.output[stream]) > run.cap and not run.truncated:
        run.truncated = True
        _end(run)


def _end(run: _Run) -> None:
    """Ask the supervisor to end, which ends all processes below it."""
    run.is_ending = True
    run.deadline = time.monotonic() + END_S
    run.parent.terminate(run.supervisor)


def _records(reports: bytes | bytearray) -> Mapping[str, Any]:
    records: dict[str, Any] = {}
    for line in reports.splitlines():
        records |= json.loads(line)
    return records


def _tail(stderr: bytes | bytearray) -> str:
    last = stderr.decode(errors="replace").strip().rpartition("\n")[2]
    return f" ({last[:300]})" if last else ""


def _spool(text: str) -> IO[bytes]:
    """Return an unnamed, inheritable file with a text."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write(text.encode(errors="surrogatepass"))
    file.seek(0)
    return file


def site_packages() -> list[str]:
    """Return the folders of the installed packages."""
    return sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})


def _unused_uid() -> int | None:
    """Return an unused user id, a different id for each program; None without the right to change users."""
    if os.geteuid() != 0:
        return None
    ranges = [[int(number) for number in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()]
    first, count = max(((inside, count) for inside, _, count in ranges), key=lambda each: each[1])
    if count < 2000:
        return None
    # From the upper half: the users of a machine are in the lower half.
    return first + count // 2 + secrets.randbelow(min(count // 2, 1 << 30) - 2)
