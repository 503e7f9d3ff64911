"""Finds the rungs of the ladder that work on this machine, by running a program that tries to break out."""

from __future__ import annotations

import functools
import json
import os
import secrets
import tempfile
from dataclasses import dataclass

from rft.grading.sandbox.launch import launch
from rft.grading.sandbox.limits import Limits, SandboxError
from rft.grading.sandbox.zygote import Zygote

RUNGS = ("limits", "Landlock and seccomp", "namespaces")
"""Names of the rungs, from the lowest."""

_PROGRAM = r"""
import os, socket, sys, tempfile
def tried(call, *arguments):
    try:
        call(*arguments)
    except (OSError, ImportError) as error:
        return False
    return True
def fork():
    if os.fork() == 0:
        os._exit(0)
with tempfile.TemporaryFile() as file:
    file.write(b"x")
import json, decimal, random, hashlib
nonce, secret, parent = sys.stdin.read().split()
print(json.dumps({"nonce": nonce, "can": {
    "read a file outside": tried(open, secret),
    "write a file outside": tried(open, secret + "-new", "w"),
    "open a socket": tried(socket.socket),
    "start a process": tried(fork),
    "signal another process": tried(os.kill, int(parent), 0),
    "see its host's processes": os.getppid() > 1 or os.path.exists("/proc"),
}}))
"""
_STOPPED = {
    0: frozenset[str](),
    1: frozenset(
        {
            "read a file outside",
            "write a file outside",
            "open a socket",
            "start a process",
            "signal another process",
        }
    ),
}
_STOPPED[2] = _STOPPED[1] | {"see its host's processes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RungReport:
    """The state of one rung on this machine.

    Example:
        RungReport(rung=1, name="Landlock and seccomp", works=False, walls=(), reason="landlock_...: not implemented")
    """

    rung: int
    """0, 1 or 2."""
    name: str
    """Its mechanisms."""
    works: bool
    """Whether a program ran at the rung and the rung stopped everything that it must stop."""
    walls: tuple[str, ...]
    """Descriptions of the walls between the program and the machine."""
    reason: str
    """The reason why it does not work; empty if it works."""


@functools.cache
def probe_rungs() -> tuple[RungReport, ...]:
    """Try every rung with a program that tries to break out. Runs once per process and takes about 0.2 s.

    Returns:
        A report for each rung, from the lowest.
    """
    try:
        with Zygote() as parent:
            return tuple(_probe(parent, rung) for rung in range(len(RUNGS)))
    except OSError as error:
        reason = f"a process could not be started: {error}"
        return tuple(
            RungReport(rung=rung, name=name, works=False, walls=(), reason=reason) for rung, name in enumerate(RUNGS)
        )


def _probe(parent: Zygote, rung: int) -> RungReport:
    nonce = secrets.token_hex(8)
    with tempfile.NamedTemporaryFile(prefix="rft-secret-") as secret:
        try:
            stdin = f"{nonce} {secret.name} {os.getpid()}"
            result, walls = launch(parent, rung, _PROGRAM, stdin, limits=Limits(wall_s=10.0))
            reason = _judged(rung, nonce, result.stdout, result.stderr_tail)
        except (SandboxError, OSError) as error:
            walls, reason = [], str(error)
        finally:
            if os.path.exists(f"{secret.name}-new"):
                os.unlink(f"{secret.name}-new")
    return RungReport(rung=rung, name=RUNGS[rung], works=not reason, walls=tuple(walls), reason=reason)


def _judged(rung: int, nonce: str, stdout: str, stderr: str) -> str:
    """Return the fault of a rung by the probe's output; empty if it has none."""
    try:
        report = json.loads(stdout)
    except ValueError:
        return f"the probe did not run: {stderr.strip().rpartition(chr(10))[2] or 'it printed nothing'}"
    if report["nonce"] != nonce:
        return "the probe printed an unexpected text"
    holes = sorted(name for name, could in report["can"].items() if could and name in _STOPPED[rung])
    return f"a program could {', '.join(holes)}" if holes else ""
