"""The sandbox: runs untrusted programs at the best rung that works on this machine."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from rft.grading.sandbox.launch import launch
from rft.grading.sandbox.limits import Limits, SandboxError, SandboxResult
from rft.grading.sandbox.probe import RUNGS, RungReport, probe_rungs
from rft.grading.sandbox.zygote import process_zygote

DEFAULT_LIMITS = Limits()


class Sandbox:
    r"""Runs Python programs in separate processes behind the walls of one rung.

    Example:
        Sandbox().run("print(input())", "4").stdout == "4\n"

    Args:
        rung: 0, 1 or 2; None uses the highest that works.
        allow_unsafe: Whether rung 0, which has no walls, is acceptable.
        packages: Whether programs may import installed packages in addition to the standard library.
        max_concurrency: Maximum number of concurrent programs of `arun`; None uses one per processor.

    Raises:
        SandboxError: The rung does not work here, or only rung 0 works and it is not allowed.
    """

    def __init__(
        self,
        rung: int | None = None,
        *,
        allow_unsafe: bool = False,
        packages: bool = False,
        max_concurrency: int | None = None,
    ) -> None:
        self.report = _choose(rung, allow_unsafe)
        self.packages = packages
        self._pool = ThreadPoolExecutor(max_concurrency or os.cpu_count() or 1, thread_name_prefix="sandbox")

    @property
    def rung(self) -> int:
        """The rung in use."""
        return self.report.rung

    def run(self, source: str, stdin: str = "", *, limits: Limits = DEFAULT_LIMITS) -> SandboxResult:
        """Run a program until it ends or reaches a limit. No behaviour of the program raises.

        Args:
            source: The program in Python.
            stdin: The program's stdin.
            limits: The program's limits.

        Raises:
            SandboxError: No process could be started, or its walls failed; the program did not run.
        """
        try:
            return launch(process_zygote(), self.rung, source, stdin, limits=limits, packages=self.packages)[0]
        except OSError as error:
            raise SandboxError(f"a program could not be started at rung {self.rung}: {error}") from error

    def run_connected(
        self, first: tuple[str, str], second: tuple[str, str], *, limits: Limits, second_has_packages: bool
    ) -> SandboxResult:
        """Run two programs that communicate only with each other.

        Args:
            first: Source and stdin of the first program, which must end when the second closes the channel.
            second: Source and stdin of the second program. Both use `rft.grading.sandbox.remote.CHANNEL_FD`.
            limits: Limits of each program.
            second_has_packages: Whether the second may import installed packages.

        Returns:
            The result of the second program.

        Raises:
            SandboxError: Like `run`.
        """
        parent, (channel, other) = process_zygote(), socket.socketpair()
        with channel, other, ThreadPoolExecutor(1, thread_name_prefix="sandbox") as beside:
            start = partial(launch, parent, self.rung, limits=limits)
            running = beside.submit(start, *first, packages=self.packages, channel=channel)
            try:
                return start(*second, packages=self.packages or second_has_packages, channel=other)[0]
            except OSError as error:
                raise SandboxError(f"a program could not be started at rung {self.rung}: {error}") from error
            finally:
                other.close()
                running.result()

    async def arun(self, source: str, stdin: str = "", *, limits: Limits = DEFAULT_LIMITS) -> SandboxResult:
        """Run a program without blocking the event loop, within the limit of concurrent programs.

        If the caller is cancelled, the program continues until it ends or reaches a limit.

        Raises:
            SandboxError: Like `run`.
        """
        call = partial(self.run, source, stdin, limits=limits)
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def describe(self) -> Mapping[str, Any]:
        """Return the rung in use, its walls, and why the others do not work, for a run's manifest."""
        return {
            "rung": self.rung,
            "name": self.report.name,
            "walls": list(self.report.walls),
            "unavailable": {report.name: report.reason for report in probe_rungs() if not report.works},
        }


def _choose(rung: int | None, allow_unsafe: bool) -> RungReport:
    if rung is not None and rung not in range(len(RUNGS)):
        raise SandboxError(f"rung {rung!r} does not exist; choose 0, 1, 2, or None for the best that works")
    reports = probe_rungs()
    working = [report for report in reports if report.works and rung in (None, report.rung)]
    if not working:
        raise SandboxError(f"no program can run safely on this machine: {_reasons(reports, rung)}")
    best = working[-1]
    if best.rung == 0 and not allow_unsafe:
        raise SandboxError(
            "programs would run without walls, with all rights of this user, which is not allowed. "
            f"Enable the kernel's Landlock or user namespaces, or set allow_unsafe. {_reasons(reports, rung)}"
        )
    return best


def _reasons(reports: tuple[RungReport, ...], rung: int | None) -> str:
    return "; ".join(
        f"rung {report.rung} ({report.name}): {report.reason}"
        for report in reports
        if not report.works and rung in (None, report.rung)
    )
