"""Calls one grader with a deadline, in a worker process or in this process."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

from rft.errors import WaitTimeout
from rft.grading.clients.outage import measure_downtime
from rft.grading.contract import LoadedGrader
from rft.grading.grader_log import GraderLog
from rft.grading.models.model_grader import model_of
from rft.grading.normalise import describe_error, failed, outcome, traceback_of, within_range
from rft.grading.processes.fork_server import ForkServers
from rft.grading.processes.wire import arguments_of
from rft.grading.processes.workers import OnRepeat, Scored, Workers
from rft.redaction import hide, secrets_in
from rft.types import Rollout, Score, Status, Task
from rft.waiting import waiting

DEADLINE_CHECK_S = 0.01
"""Shortest interval between two checks of a deadline, which downtime may extend."""


class Runner:
    """Calls graders. A call that misses its deadline is abandoned, even if it hangs.

    Args:
        graders: All graders to call.
        max_concurrency: Maximum number of concurrent async calls.
        num_workers: Worker processes; None uses the default of `rft.grading.processes.workers`.
        worker_memory_mb: Memory in MiB that a worker process may use beyond the loaded graders; None sets no limit.
        fork_servers: Shared source of worker processes, if several panels share one.
        log_folder: Folder for faults and the output of graders; None keeps neither.
        on_repeat: Called with the grader, the task and the reason when a call in a worker process is repeated.
    """

    def __init__(
        self,
        graders: Sequence[LoadedGrader],
        *,
        max_concurrency: int,
        num_workers: int | None,
        worker_memory_mb: int | None = None,
        fork_servers: ForkServers | None = None,
        log_folder: Path | None = None,
        on_repeat: OnRepeat | None = None,
    ) -> None:
        self._secrets = {grader.name: secrets_in(grader.entry or {}) for grader in graders}
        every_secret = {secret for secrets in self._secrets.values() for secret in secrets}
        self._log = GraderLog(log_folder, sorted(every_secret, key=len, reverse=True))
        self._own_servers = ForkServers()
        server = (fork_servers or self._own_servers).of(graders, worker_memory_mb)
        self.workers = Workers(server, num_workers, printed=self._log.printed, on_repeat=on_repeat)
        self._slots = asyncio.Semaphore(max_concurrency)

    async def run(self, grader: LoadedGrader, task: Task, rollouts: Sequence[Rollout]) -> list[Score]:
        """Grade one rollout, or the rollouts of a group. Never raises an error of the grader."""
        if grader.runs_in_worker:
            scores, traceback = await self.workers.grade(grader, task, rollouts)
        else:
            async with self._slots:
                scores, traceback = await self._in_process(grader, task, rollouts)
        if secrets := self._secrets[grader.name]:
            scores = [_without(secrets, score) for score in scores]
        if grader.range is not None:
            scores = [within_range(score, grader.range, clip=grader.clip) for score in scores]
        for rollout, score in zip(rollouts, scores, strict=True):
            if score.status.is_grader_fault:
                self._log.fault(grader.name, rollout, score, traceback)
        return scores

    def close(self) -> None:
        """End the worker processes, and log how many faults and how much output were kept."""
        self.workers.close()
        self._own_servers.close()
        self._log.close()

    async def _in_process(self, grader: LoadedGrader, task: Task, rollouts: Sequence[Rollout]) -> Scored:
        arguments, count = arguments_of(grader, task, rollouts), len(rollouts)
        started, traceback, folder = time.perf_counter(), "", _working_folder()
        try:
            if (model := model_of(grader)) is not None:
                model.load_here()  # before the call's deadline begins
            with waiting(f"grader '{grader.name}' on task {task.id}", deadline_s=grader.timeout_s):
                result = grader.call(**arguments)
                if inspect.isawaitable(result):
                    result = await self._awaited(grader, result)
            scores = outcome(result, count=count, per_group=grader.per_group)
        except WaitTimeout:
            scores = failed(Status.TIMEOUT, f"no result within {grader.timeout_s:g} s", count)
        except (Exception, SystemExit) as error:  # SystemExit would end the event loop and the run
            scores, traceback = (
                failed(Status.GRADER_ERROR, describe_error(error, grader.file), count),
                traceback_of(error),
            )
        finally:
            if folder is not None and _working_folder() != folder:  # relative paths would name other files
                os.chdir(folder)
        seconds = time.perf_counter() - started
        return [replace(score, seconds=seconds) for score in scores], traceback

    async def _awaited(self, grader: LoadedGrader, result: Awaitable[Any]) -> Any:
        """Wait for an async grader's result. Its deadline stands still while it waits for a service that is down.

        Raises:
            WaitTimeout: The grader missed its `timeout_s`.
            Exception: The exception of the grader.
        """
        started, downtime = monotonic(), measure_downtime()
        work = asyncio.ensure_future(_contained(result))
        # An abandoned call may fail unnoticed.
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            while not work.done():
                left_s = grader.timeout_s - (monotonic() - started - downtime.seconds)
                if left_s <= 0:
                    raise WaitTimeout(f"grader '{grader.name}'", grader.timeout_s)
                await asyncio.wait({work}, timeout=max(left_s, DEADLINE_CHECK_S))
        finally:
            work.cancel()
        if work.cancelled():
            raise RuntimeError("the grader cancelled itself")
        return work.result()


def _without(secrets: Sequence[str], score: Score) -> Score:
    """Hide secrets in a score's reason: a grader may print its key, and a service may quote it."""
    return score if score.reason is None else replace(score, reason=hide(score.reason, secrets))


def _working_folder() -> str | None:
    """Return the working folder; None if it was deleted."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


async def _contained(result: Awaitable[Any]) -> Any:
    try:
        return await result
    except SystemExit as error:  # a task that raises SystemExit ends the event loop
        raise RuntimeError(f"it called sys.exit({error.code!r})").with_traceback(error.__traceback__) from None
