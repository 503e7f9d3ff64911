"""Ends a run with a message if Ray dies or hangs. Ray itself would end the process without one, or hang."""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from rft.cluster.head_check import check_alive
from rft.errors import ClusterError, LearnerLost, RayLost, SamplersLost
from rft.waiting import in_thread

SILENCE_S = 20.0
"""Seconds that a process may be silent. After 60 s without its head, Ray ends this process."""
POLL_S = 2.0
FAREWELL_S = 5.0
"""Seconds after the loss of an actor in which the raylet may turn out to have ended. It ends its workers first."""
BLOCKED_S = 15.0
"""Seconds after a loss in which the event loop must react; otherwise the process ends without a summary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayProcess:
    """A process of Ray that a run cannot do without.

    Example:
        RayProcess(name="raylet", address="127.0.0.1:41234", pid=4177)
    """

    name: str
    """Name in messages."""
    address: str
    """`host:port` of its gRPC server."""
    pid: int | None = None
    """Its number, if this process has started it."""
    holds_objects: bool = False
    """Whether the object store is in it. If it ends while this process uses an object, Ray ends this process, too."""

    def __str__(self) -> str:
        return f"the {self.name} at {self.address}" + (f" (process {self.pid})" if self.pid else "")


def own_processes() -> list[RayProcess]:
    """Return the head and the raylet of the Ray that this process has started; empty if it started none."""
    from ray._private import worker

    node = worker._global_node
    if node is None or not node.is_head():
        return []
    pids = {kind: infos[0].process.pid for kind, infos in node.all_processes.items()}
    return [
        RayProcess(name="Ray head", address=node.gcs_address, pid=pids["gcs_server"]),
        RayProcess(
            name="raylet",
            address=f"{node.node_ip_address}:{node.node_manager_port}",
            pid=pids["raylet"],
            holds_objects=True,
        ),
    ]


@asynccontextmanager
async def watched(processes: Sequence[RayProcess]) -> AsyncIterator[None]:
    """Watch processes of Ray for the duration of the block.

    If the raylet of this process ends, its head is killed, so that it does not report the loss of actors. A raylet that
    hangs remains; the kernel ends it together with this process.

    Args:
        processes: Whose death or silence ends the block.

    Raises:
        RayLost: A process died, or was silent for `SILENCE_S`.
    """
    if not processes:
        yield
        return
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    losses: list[RayLost] = []
    is_over = False
    is_heard = threading.Event()

    def cancel() -> None:
        is_heard.set()
        if not is_over:
            task.cancel()

    def lose(loss: RayLost) -> None:
        losses.append(loss)
        loop.call_soon_threadsafe(cancel)
        if not is_heard.wait(BLOCKED_S):  # the event loop is blocked, perhaps in a call of Ray
            print(f"rft: {loss}", file=sys.stderr, flush=True)
            os._exit(loss.exit_code)

    watcher = Watcher(processes, lose)
    try:
        yield
    except asyncio.CancelledError:
        if losses and task.uncancel() <= 0:
            raise losses[0] from None
        raise
    except Exception as error:  # a part has noticed the loss, too, perhaps first
        if not losses and isinstance(error, LearnerLost | SamplersLost):
            await _until_cancelled(task, losses)
        if losses:
            raise losses[0] from error
        raise
    finally:
        is_over = True
        is_heard.set()
        watcher.stop()


async def _until_cancelled(task: asyncio.Task[Any], losses: Sequence[RayLost]) -> None:
    """Wait up to `FAREWELL_S` for a loss, which cancels the task."""
    try:
        await asyncio.sleep(FAREWELL_S)
    except asyncio.CancelledError:
        if not losses or task.uncancel() > 0:
            raise


class Watcher:
    """A thread that waits for the first loss of a process. It also works while the event loop is blocked.

    Args:
        processes: The processes.
        lose: Called in the thread with the first loss.
    """

    def __init__(self, processes: Sequence[RayProcess], lose: Callable[[RayLost], None]) -> None:
        self._processes = processes
        self._lose = lose
        self._stopped = threading.Event()
        self._wake_read, self._wake_write = os.pipe()
        in_thread(self._watch, name="watch over Ray")

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        os.close(self._wake_write)

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_read, selectors.EVENT_READ)
            handles = {handle: process for process in self._processes if (handle := _handle(process)) is not None}
            for handle in handles:
                selector.register(handle, selectors.EVENT_READ)
            try:
                if (loss := self._first_loss(selector, handles)) is not None:
                    self._lose(loss)
            finally:
                for handle in (self._wake_read, *handles):
                    os.close(handle)

    def _first_loss(self, selector: selectors.BaseSelector, handles: dict[int, RayProcess]) -> RayLost | None:
        heard = dict.fromkeys(self._processes, time.monotonic())
        while not self._stopped.is_set():
            for key, _ in selector.select(POLL_S):
                if not self._stopped.is_set() and (ended := handles.get(key.fd)) is not None:
                    self._kill_others(ended)
                    return _loss(ended, "has ended")
            for process in self._processes:
                try:
                    check_alive(process.address, deadline_s=POLL_S)
                    heard[process] = time.monotonic()
                except ClusterError:
                    if time.monotonic() - heard[process] >= SILENCE_S:
                        return _loss(process, f"has been silent for {SILENCE_S:g} s")
        return None

    def _kill_others(self, ended: RayProcess) -> None:
        for process in self._processes:
            if process is not ended and process.pid is not None and not process.holds_objects:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)


def _handle(process: RayProcess) -> int | None:
    """Return a file descriptor that becomes readable when the process ends; None where the system has none."""
    if process.pid is None or not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(process.pid)
    except OSError:  # an old kernel, or the process has ended already: then it is silent
        return None


def _loss(process: RayProcess, problem: str) -> RayLost:
    remedy = "" if process.pid else "restart the cluster and "
    return RayLost(
        f"{process} {problem} while the run was under way; {remedy}continue from the last checkpoint with "
        "resume=<run folder>"
    )
