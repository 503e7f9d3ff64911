"""Start a program at one rung, read what it prints, end it."""

from __future__ import annotations

import json
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from rft.grading.sandbox.limits import Limits, SandboxError, SandboxResult
from rft.waiting import waiting

STARTUP_S = 20.0
"""How long starting up and ending may take, beside the program's own time."""
STDERR_TAIL_BYTES = 4000

_BOOT = str(Path(__file__).resolve().parent / "inside" / "boot.py")
# No `-I`: it would make string hashes, and with them the order of sets, different in each run. The environment is ours.
_FLAGS = ("-s", "-P", "-S")
_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "LC_ALL": "C.UTF-8",
    # Linear algebra libraries reserve memory for each processor of the machine, more than the limit allows.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
}


@dataclass(slots=True)
class _Run:
    """A program while it runs."""

    process: subprocess.Popen[bytes]
    cap: int
    output: dict[str, bytearray] = field(default_factory=lambda: {"stdout": bytearray(), "stderr": bytearray()})
    reports: bytearray = field(default_factory=bytearray)
    truncated: bool = False


def launch(
    rung: int, source: str, stdin: str, *, limits: Limits, packages: bool = False
) -> tuple[SandboxResult, list[str]]:
    """Run a program at a rung.

    Args:
        rung: 0, 1 or 2.
        source: The program, Python.
        stdin: What it reads from stdin.
        limits: What it may use up.
        packages: Whether it may import the installed packages besides the standard library.

    Returns:
        What came of it, and the walls that stood, in words.

    Raises:
        SandboxError: The rung does not work on this machine; the program did not run.
    """
    base, started = tempfile.mkdtemp(prefix="rft-sandbox-"), time.monotonic()
    try:
        order = {"rung": rung, "source": source, "base": base, "uid": _unused_uid()}
        order["packages"] = _site_packages(packages)
        with _spool(json.dumps({**order, **asdict(limits)})) as order_file, _spool(stdin) as stdin_file:
            run, reports = _start_and_read(base, order_file, stdin_file, limits)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    records = _records(reports)
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


def _start_and_read(base: str, order: IO[bytes], stdin: IO[bytes], limits: Limits) -> tuple[_Run, bytes]:
    report_read, report_write = os.pipe()
    try:
        process = subprocess.Popen(
            [os.path.realpath(sys.executable), *_FLAGS, _BOOT, str(order.fileno()), str(report_write)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(order.fileno(), report_write),
            cwd=base,
            env=_ENVIRONMENT,
            start_new_session=True,
        )
        os.close(report_write)
        report_write = -1
        run = _Run(process, limits.output_bytes)
        try:
            with waiting("a sandboxed program"):
                _read(run, report_read, time.monotonic() + limits.wall_s + STARTUP_S)
        finally:
            _end(process)
    finally:
        os.close(report_read)
        if report_write >= 0:
            os.close(report_write)
    return run, bytes(run.reports)


def _read(run: _Run, report_fd: int, deadline: float) -> None:
    """Read until the supervisor has ended; end everything at the deadline, or when too much is printed."""
    assert run.process.stdout is not None and run.process.stderr is not None
    with selectors.DefaultSelector() as selector:
        selector.register(run.process.stdout, selectors.EVENT_READ, "stdout")
        selector.register(run.process.stderr, selectors.EVENT_READ, "stderr")
        selector.register(report_fd, selectors.EVENT_READ, "report")
        supervised = True
        while selector.get_map():
            left = max(deadline - time.monotonic(), 0.0) if supervised else 0.0
            ready = selector.select(left)
            if not ready:
                return
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
        _end(run.process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the supervisor, which takes everything with it, and whatever is left in its process group."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        process.wait(timeout=2.0)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=STARTUP_S)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _records(reports: bytes) -> Mapping[str, Any]:
    records: dict[str, Any] = {}
    for line in reports.splitlines():
        records |= json.loads(line)
    return records


def _tail(stderr: bytes | bytearray) -> str:
    last = stderr.decode(errors="replace").strip().rpartition("\n")[2]
    return f" ({last[:300]})" if last else ""


def _spool(text: str) -> IO[bytes]:
    """Return an unnamed file that holds a text, to be inherited."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write(text.encode(errors="surrogatepass"))
    file.seek(0)
    return file


def _site_packages(wanted: bool) -> list[str]:
    return sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}) if wanted else []


def _unused_uid() -> int | None:
    """Return a user id that nobody uses, a different one for each program; None where we may not change users."""
    if os.geteuid() != 0:
        return None
    ranges = [[int(number) for number in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()]
    first, count = max(((inside, count) for inside, _, count in ranges), key=lambda each: each[1])
    if count < 2000:
        return None
    # From the upper half: the lower one is where the users of a machine are.
    return first + count // 2 + secrets.randbelow(min(count // 2, 1 << 30) - 2)
