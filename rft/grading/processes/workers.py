"""Worker processes for sync graders: a queue of calls and a few processes that serve it.

A worker receives several quick calls at a time and runs them one after another. At a call's deadline the worker is
killed and replaced. Only that call fails; the calls after it return to the head of the queue. A call whose worker was
killed or suspended from outside is repeated once, because it may not be to blame.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rft.errors import GradeError
from rft.grading.contract import LoadedGrader
from rft.grading.normalise import failed
from rft.grading.processes.fork_server import ForkServer
from rft.grading.processes.wire import decode_scores, encode_call, encode_inputs
from rft.grading.processes.worker import Worker
from rft.types import Rollout, Score, Status, Task
from rft.waiting import waiting

log = logging.getLogger(__name__)

BATCH_S = 0.02
"""Calls with this total expected duration are sent together."""
BATCH_CALLS = 256
BATCH_BYTES = 1 << 16
"""Size of a batch that a socket takes at once, so a crash at its first call loses no later call."""
SLOW_S = 0.1
"""A call of this duration is sent alone."""
MAX_DEFAULT_WORKERS = 32


def default_num_workers() -> int:
    """Return one worker for each usable CPU but one, at least two, so one may hang while the other works."""
    return min(MAX_DEFAULT_WORKERS, max(2, len(os.sched_getaffinity(0)) - 1))


Scored = tuple[list[Score], str]
"""The scores of a call, and the traceback of an exception."""

OnRepeat = Callable[[str, str, str], None]
"""Receives the grader, the task and the reason of a repeated call."""


@dataclass(slots=True, eq=False)
class _Call:
    """A call that waits in the queue or runs in a worker."""

    grader: LoadedGrader
    task: Task
    rollouts: Sequence[Rollout]
    line: bytes = b""
    is_repeat: bool = False
    scores: asyncio.Future[Scored] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def settle(self, scores: list[Score], traceback: str = "") -> None:
        if not self.scores.done():  # a cancelled call has no waiting caller
            self.scores.set_result((scores, traceback))

    def fail(self, reason: str, status: Status = Status.GRADER_ERROR) -> None:
        seconds = self.grader.timeout_s if status is Status.TIMEOUT else 0.0
        self.settle(failed(status, reason, len(self.rollouts), seconds=seconds))


class _WorkerLost(Exception):
    """A worker will not serve its call.

    Args:
        reason: The reason for the call's score.
        status: The call's status.
        from_outside: Whether the call may not be to blame.
    """

    def __init__(self, reason: str, status: Status = Status.GRADER_ERROR, *, from_outside: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.from_outside = from_outside


class Workers:
    """Runs graders in worker processes. Starts with the first call; belongs to one event loop.

    Args:
        num_workers: Number of processes; None uses `default_num_workers()`.
        server: The fork server; several panels may share one.
        printed: Called with whole lines of the graders' output.
        on_repeat: Called with the grader, the task and the reason when a call is repeated.
    """

    def __init__(
        self,
        server: ForkServer,
        num_workers: int | None = None,
        *,
        printed: Callable[[bytes], None],
        on_repeat: OnRepeat | None = None,
    ) -> None:
        self.replaced = 0
        """Number of workers that were killed at a deadline or crashed."""
        self.repeated = 0
        """Number of calls that were repeated because their worker was killed or suspended from outside."""
        self._num_workers = num_workers or default_num_workers()
        self._server = server
        self._printed = printed
        self._on_repeat = on_repeat
        self._queue: deque[_Call] = deque()
        self._arrived = asyncio.Event()
        self._slots: list[asyncio.Task[None]] = []
        self._seconds: dict[str, float] = {}  # mean duration of a grader's latest calls

    async def grade(self, grader: LoadedGrader, task: Task, rollouts: Sequence[Rollout]) -> Scored:
        """Grade one rollout, or the rollouts of a group. Never raises an error of the grader."""
        call = _Call(grader, task, rollouts)
        self._queue.append(call)
        self._arrived.set()
        if len(self._slots) < self._num_workers:
            self._slots.append(asyncio.create_task(self._serve(), name="grader workers"))
        return await call.scores

    def close(self) -> None:
        """End all worker processes. Waiting calls are cancelled."""
        for slot in self._slots:
            slot.cancel()  # and the worker ends

    async def _serve(self) -> None:
        """Serve the queue with one worker, which is replaced when it is lost."""
        worker: Worker | None = None
        try:
            while True:
                calls = await self._next_calls()
                try:
                    if worker is None or worker.is_lost:  # lost without a call, for example with the process that forks
                        worker = await self._server.fork(self._printed)
                    if not await self._run(worker, calls):
                        worker = None
                except GradeError as error:
                    for call in calls:
                        call.fail(str(error))
                except Exception as error:  # a fault of rft must cost neither the slot nor a caller's time
                    log.exception("a worker process of the graders was abandoned")
                    for call in calls:
                        call.fail(f"rft lost the worker process: {error!r}")
                    if worker is not None:
                        worker.close()
                    worker = None
        finally:
            if worker is not None:
                self._server.let_go(worker)

    async def _next_calls(self) -> deque[_Call]:
        """Take one call, or several quick calls, from the queue, up to this slot's share."""
        calls: deque[_Call] = deque()
        num_bytes, seconds = 0, 0.0
        while not calls:
            while not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            share = min(BATCH_CALLS, math.ceil(len(self._queue) / self._num_workers))
            while self._queue and len(calls) < share:
                call = self._queue[0]
                seconds += self._seconds.get(call.grader.name, math.inf)
                if call.scores.done() or not self._encode(call):
                    self._queue.popleft()
                    continue
                num_bytes += len(call.line)
                if calls and (seconds > BATCH_S or num_bytes > BATCH_BYTES):
                    break
                calls.append(self._queue.popleft())
        return calls

    def _encode(self, call: _Call) -> bool:
        """Write a call as JSON just before sending: a queue may be long and a rollout large."""
        try:
            call.line = call.line or encode_call(call.grader, encode_inputs(call.grader, call.task, call.rollouts))
        except ValueError as error:
            call.fail(str(error))
        return not call.scores.done()

    async def _run(self, worker: Worker, calls: deque[_Call]) -> bool:
        """Run calls in a worker; return whether the worker can run more. Otherwise it is killed."""
        sent, served = len(calls), 0
        worker.write(b"".join(call.line for call in calls))
        try:
            while calls:
                scores, traceback = await self._reply(worker, calls)
                calls.popleft().settle(scores, traceback)
                served += 1
        except _WorkerLost as lost:
            if not self._is_repeated(calls[0], lost):
                calls.popleft().fail(lost.reason, lost.status)
        if served == sent:
            return True
        self._hand_back(calls)
        self.replaced += 1
        await self._server.end(worker)
        return False

    def _is_repeated(self, call: _Call, lost: _WorkerLost) -> bool:
        """Whether a call is repeated after the loss of its worker."""
        if call.is_repeat or not lost.from_outside:
            return False
        call.is_repeat = True
        self.repeated += 1
        log.warning("grader '%s' on task %s: %s; the call is repeated", call.grader.name, call.task.id, lost.reason)
        if self._on_repeat is not None:
            self._on_repeat(call.grader.name, call.task.id, lost.reason)
        return True

    async def _reply(self, worker: Worker, calls: deque[_Call]) -> Scored:
        """Wait for the first call's scores. After a while, the calls behind it return to the queue.

        Raises:
            _WorkerLost: The scores will not arrive.
        """
        call = calls[0]
        line = worker.arrived_line()
        if line is None:  # a batch's replies arrive together, so few calls wait
            line = await self._awaited_line(worker, calls)
        try:
            scores, traceback = decode_scores(line, len(call.rollouts))
        except ValueError as error:
            raise _WorkerLost(f"its worker process sent an invalid reply: {error}") from None
        before = self._seconds.get(call.grader.name, scores[0].seconds)
        self._seconds[call.grader.name] = 0.8 * before + 0.2 * scores[0].seconds
        return scores, traceback

    async def _awaited_line(self, worker: Worker, calls: deque[_Call]) -> bytes:
        call = calls[0]
        limit = call.grader.timeout_s
        with waiting(f"grader '{call.grader.name}' on task {call.task.id}", deadline_s=limit):
            try:
                line = await worker.line(min(limit, SLOW_S))
                if line is None and limit > SLOW_S:
                    behind = deque(calls)
                    calls.clear()
                    calls.append(behind.popleft())
                    self._hand_back(behind)
                    line = await worker.line(limit - SLOW_S)
            except ConnectionError:
                ended = await self._server.end(worker)
                foreign = ended.from_outside and not worker.misconduct
                reason = f"its worker process {worker.misconduct or ended.how}"
                raise _WorkerLost(reason, from_outside=foreign) from None
        if line is None:
            ended = await self._server.end(worker)
            raise _WorkerLost(f"no result within {limit:g} s", Status.TIMEOUT, from_outside=ended.from_outside)
        return line

    def _hand_back(self, calls: deque[_Call]) -> None:
        self._queue.extendleft(reversed(calls))
        self._arrived.set()
