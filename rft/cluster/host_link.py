"""The driver's side of one host of environments: a Ray actor that relays the lines of its processes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from itertools import count
from typing import Any, TypeVar

from ray.exceptions import RayError, RayTaskError

from rft.episodes.host import Arrived, Order
from rft.episodes.local_process import START_S
from rft.episodes.process import END_S, HostLost
from rft.episodes.tunnel import Exit
from rft.errors import RftError, WaitTimeout
from rft.sampling.failures import explain
from rft.waiting import wait_for

T = TypeVar("T")

SILENT_S = 30.0
"""A host answers after at most `rft.episodes.host.POLL_S`; after this silence it counts as lost."""


class HostConnection:
    """The connection to a process through its host. Implements `rft.episodes.process.Connection`.

    Args:
        host: The link to its host.
        number: Number of the process on the host.
    """

    pid = None

    def __init__(self, host: HostLink, number: int) -> None:
        self._host = host
        self._number = number
        self.is_lost = False
        """Whether the process has ended."""
        self.is_host_lost = False
        """Whether it ended because its host was lost."""
        self._over = asyncio.Event()
        self._arrived: list[bytes] = []
        self._received: Callable[[bytes], None] = self._arrived.append
        self._ended: Callable[[], None] | None = None

    def attach(self, received: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        """Pass on each line, and the end of the process."""
        self._received, self._ended = received, lost
        for line in self._arrived:
            received(line)
        if self.is_lost:
            lost()

    def receive(self, line: bytes) -> None:
        """Take a line of the process."""
        self._received(line)

    def lose(self, *, with_host: bool) -> None:
        """Take the end of the process."""
        if not self.is_lost:
            self.is_lost, self.is_host_lost = True, with_host
            self._over.set()
            if self._ended is not None:
                self._ended()

    def write(self, data: bytes) -> None:
        """Send lines."""
        self._host.order(("line", self._number, data))

    async def settle(self) -> None:
        """Return when it is known whether the host is lost now."""
        await self._host.settle()

    def kill(self) -> None:
        """Kill the process."""
        if not self.is_lost:
            self._host.order(("kill", self._number, b""))

    async def end(self) -> None:
        """Kill the process, and wait for its end."""
        self.kill()
        await wait_for(self._over.wait(), what="a killed process of an environment to end", deadline_s=END_S + SILENT_S)


class HostLink:
    """The driver's side of one host until it is lost.

    Args:
        actor: The host's Ray actor.
        lost: Called once with the reason if the host is lost.
        printed: Receives what environments print.
    """

    def __init__(self, actor: Any, lost: Callable[[str], None], printed: Callable[[bytes], None]) -> None:
        self._actor = actor
        self._lost, self._printed = lost, printed
        self._connections: dict[int, HostConnection] = {}
        self._numbers = count()
        self._exit: Exit | None = None
        self._port: asyncio.Task[int] | None = None
        self._orders: list[Order] = []
        self._has_orders = asyncio.Event()
        self._answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loss: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        loops = {"orders to a host": self._send(), "news of a host": self._receive()}
        self._tasks = [asyncio.create_task(self._until_lost(loop), name=name) for name, loop in loops.items()]

    @property
    def is_lost(self) -> bool:
        """Whether the host is lost."""
        return self._loss.done()

    async def start(self, first: Mapping[str, Any]) -> tuple[HostConnection, str]:
        """Start a process, like `rft.episodes.process.Host.start`."""
        number = next(self._numbers)
        connection = self._connections[number] = HostConnection(self, number)
        try:
            call = self._unless_lost(self._actor.start.remote(number, first))
            sha256 = await wait_for(call, what="a process of an environment on a node", deadline_s=START_S + SILENT_S)
        except RayError as error:
            self._connections.pop(number, None)
            if isinstance(error, RayTaskError) and isinstance(error.cause, RftError):
                raise error.cause from None
            self._lose(explain(error))
            raise HostLost from error
        return connection, sha256

    async def reach(self, port: int) -> int:
        """Return the port of the node that leads to a port of the driver, like `rft.episodes.process.Host.reach`."""
        if self._port is None:
            self._exit = Exit(lambda frame: self.order(("frame", *frame)), port)
            self._port = asyncio.create_task(self._open_tunnel(), name="tunnel to a node")
        return await asyncio.shield(self._port)

    async def _open_tunnel(self) -> int:
        try:
            call = self._unless_lost(self._actor.open_tunnel.remote())
            return await wait_for(call, what="a node with environments to listen", deadline_s=SILENT_S)
        except (RayError, WaitTimeout) as error:
            self._lose(explain(error))
            raise HostLost from error

    async def _unless_lost(self, call: Awaitable[T]) -> T:
        """Await an answer that may be long in coming.

        Raises:
            HostLost: The host was lost meanwhile.
        """
        answer = asyncio.ensure_future(call)
        try:
            either: set[asyncio.Future[Any]] = {answer, self._loss}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise HostLost
            return answer.result()
        finally:
            answer.cancel()

    def order(self, order: Order) -> None:
        """Send an order, after those before it."""
        self._orders.append(order)
        self._has_orders.set()

    async def settle(self) -> None:
        """Wait for the next answer of the host, or for its loss. A host without an answer in time is lost."""
        if self.is_lost:
            return
        try:
            await wait_for(
                asyncio.wait([self._answer, self._loss], return_when=asyncio.FIRST_COMPLETED),
                what="a node with environments to answer",
                deadline_s=SILENT_S,
            )
        except WaitTimeout as error:
            self._lose(explain(error))

    async def close(self) -> None:
        """End the processes of the host."""
        await self._end_loops()
        if self.is_lost:
            return
        with suppress(RayError, WaitTimeout):  # the actor is killed in any case
            what = "the environments of a node to end"
            self._printed(await wait_for(self._actor.close.remote(), what=what, deadline_s=END_S))
        self._lose_all(with_host=False)

    async def _end_loops(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _until_lost(self, loop: Coroutine[Any, Any, None]) -> None:
        try:
            await loop
        except (RayError, WaitTimeout) as error:
            self._lose(explain(error))
        except Exception as error:  # without its loops, nobody would hear of the host any more
            self._lose(f"{type(error).__name__}: {error}")

    async def _send(self) -> None:
        while True:
            await self._has_orders.wait()
            self._has_orders.clear()
            orders, self._orders = self._orders, []
            await wait_for(self._actor.send.remote(orders), what="a node with environments", deadline_s=SILENT_S)

    async def _receive(self) -> None:
        while True:
            arrived = await self._next()
            self._answered()
            if arrived.output:
                self._printed(arrived.output)
            for frame in arrived.frames:
                assert self._exit is not None
                self._exit.receive(frame)
            for number, line in arrived.lines:
                self._connections[number].receive(line)
            for number in arrived.ended:
                self._connections.pop(number).lose(with_host=False)

    async def _next(self) -> Arrived:
        """Return the next news. The display does not show this wait, which is always there.

        Raises:
            WaitTimeout: The host is silent.
        """
        try:
            async with asyncio.timeout(SILENT_S) as limit:
                arrived: Arrived = await self._actor.receive.remote()
                return arrived
        except TimeoutError:
            if not limit.expired():
                raise
            raise WaitTimeout("a node with environments to say that it lives", SILENT_S) from None

    def _answered(self) -> None:
        self._answer.set_result(None)
        self._answer = asyncio.get_running_loop().create_future()

    def _lose(self, reason: str) -> None:
        if self.is_lost:
            return
        self._loss.set_result(None)
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        self._lost(reason)
        self._lose_all(with_host=True)

    def _lose_all(self, *, with_host: bool) -> None:
        for connection in self._connections.values():
            connection.lose(with_host=with_host)
        self._connections = {}
        if self._exit is not None:
            self._exit.close()
