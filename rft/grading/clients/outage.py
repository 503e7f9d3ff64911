"""Waits for a service that is down, so that an outage of minutes costs time instead of rewards.

A circuit breaker for each service counts as open after an outage: a failed connection, a timeout, or a status 502, 503
or 504, while no other call got an answer. One waiting call after another then tries the service, with growing pauses
between the attempts. The first answer closes the circuit, and all calls continue. After the budget, the waiting calls
fail, and later calls fail without a wait until the service answers again. A service that has never answered is not
waited for, because its address is probably wrong.

The deadline of a call (`timeout_s`) stands still during an outage; see `Downtime`.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

from rft.waiting import waiting

log = logging.getLogger(__name__)

T = TypeVar("T")

OUTAGE_S = 600.0
"""Default budget of an outage, in seconds."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
"""Pauses between two attempts at a service that is down. The pause doubles."""


class ServiceError(Exception):
    """A call of a service failed. The message contains no secret.

    Args:
        message: The reason.
        attempted_at: `time.monotonic()` at the start of the last attempt.
        is_outage: Whether the service did not answer it, so that other calls would probably fail as well.
        may_pass: Whether the same call may succeed later. A refused key or request stays refused.
    """

    def __init__(
        self, message: str, *, attempted_at: float = 0.0, is_outage: bool = False, may_pass: bool = True
    ) -> None:
        super().__init__(message)
        self.attempted_at = attempted_at
        self.is_outage = is_outage
        self.may_pass = may_pass


@dataclass(slots=True)
class Downtime:
    """The time that one call of a grader has spent waiting for services that were down."""

    _num_waits: int = 0
    _since: float = 0.0
    _seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """The time so far, in seconds."""
        return self._seconds + (monotonic() - self._since if self._num_waits else 0.0)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the duration of a block. Blocks of concurrent requests of the call may overlap."""
        if not self._num_waits:
            self._since = monotonic()
        self._num_waits += 1
        try:
            yield
        finally:
            self._num_waits -= 1
            if not self._num_waits:
                self._seconds += monotonic() - self._since


_downtime: ContextVar[Downtime] = ContextVar("downtime")


def measure_downtime() -> Downtime:
    """Return the downtime of all calls of services that this task and its children make from now on."""
    downtime = Downtime()
    _downtime.set(downtime)
    return downtime


class Circuit:
    """The circuit breaker of one service. Belongs to one event loop; `circuit_of` returns it.

    Args:
        service: The service in messages, such as `model 'judge' at http://localhost:8000/v1`.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._answered_at: float | None = None
        self._down_since: float | None = None
        self._pause_s = FIRST_PAUSE_S
        self._is_reported = False
        self._turn = asyncio.Lock()  # first come, first served: a request that always fails blocks no other

    def seems_down(self, attempted_at: float) -> bool:
        """Whether the service answered before, but no call since a failed attempt that started at this time."""
        return self._answered_at is not None and self._answered_at < attempted_at

    async def call(self, attempt: Callable[[bool], Awaitable[T]], *, budget_s: float) -> T:
        """Call the service; wait while it is down.

        Args:
            attempt: Calls the service, and raises `ServiceError`. Its argument is whether to make one attempt only.
            budget_s: Seconds to wait for the service before the call fails.

        Raises:
            ServiceError: The call failed, or the service was down for too long.
        """
        waited = Downtime()
        while True:
            if not self._is_down():
                try:
                    return self._answered(await attempt(False))
                except ServiceError as error:
                    if not error.is_outage:
                        self._close()
                    if not error.is_outage or not self.seems_down(error.attempted_at) or waited.seconds >= budget_s:
                        raise
                    self._down_since = self._down_since or monotonic()
            what = f"{self._service} to answer again"
            with waiting(what, deadline_s=budget_s), waited.counted(), _downtime.get(Downtime()).counted():
                async with self._turn:
                    if not self._is_down():
                        continue
                    await asyncio.sleep(self._pause_s)
                    try:
                        return self._answered(await attempt(True))
                    except ServiceError as error:
                        if not error.is_outage:
                            self._close()
                            raise
                        if self._down_s() >= budget_s:
                            self._give_up()
                            raise
                        self._report(error, budget_s)
                        self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s)

    def _is_down(self) -> bool:
        return self._down_since is not None

    def _down_s(self) -> float:
        return 0.0 if self._down_since is None else monotonic() - self._down_since

    def _answered(self, reply: T) -> T:
        self._close()
        return reply

    def _report(self, error: ServiceError, budget_s: float) -> None:
        """Report an outage once, after its second failed attempt: a single lost connection is ordinary."""
        if self._down_since is not None and not self._is_reported:
            self._is_reported = True
            log.warning("%s does not answer; calls wait for up to %g s: %s", self._service, budget_s, error)

    def _close(self) -> None:
        if self._is_reported:
            log.warning("%s answers again after %.0f s", self._service, self._down_s())
        self._answered_at = monotonic()
        self._reset()

    def _give_up(self) -> None:
        """Fail the waiting calls, and later ones without a wait, until the service answers."""
        log.warning("%s has not answered for %.0f s", self._service, self._down_s())
        self._answered_at = None
        self._reset()

    def _reset(self) -> None:
        self._down_since, self._pause_s, self._is_reported = None, FIRST_PAUSE_S, False


_circuits: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Circuit]] = weakref.WeakKeyDictionary()


def circuit_of(service: str) -> Circuit:
    """Return the circuit breaker of a service in the running event loop."""
    circuits = _circuits.setdefault(asyncio.get_running_loop(), {})
    return circuits.setdefault(service, Circuit(service))
