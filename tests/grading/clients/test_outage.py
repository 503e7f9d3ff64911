"""The circuit breaker of a service, on a clock that the tests move, and in front of real graders."""

import asyncio
import socket
import threading

import pytest

from graders.endpoint import Endpoint
from rft.grading import Status, load_grader, running
from rft.grading.clients import http, outage
from rft.grading.clients.outage import Circuit, ServiceError, measure_downtime
from rft.grading.panel import Panel
from rft.waiting import current_wait

from ..conftest import make_rollouts, make_task, stream


class FakeTime:
    """A clock that `asyncio.sleep` moves, in the thread of the test."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        self.pauses = []
        self._sleep = asyncio.sleep
        self._thread = threading.get_ident()
        for module in (http, outage, running):
            monkeypatch.setattr(module, "monotonic", lambda: self.now)

    async def sleep(self, seconds):
        if threading.get_ident() != self._thread:  # a server of another test
            return await self._sleep(seconds)
        self.pauses.append(seconds)
        self.now += seconds
        return await self._sleep(0)


@pytest.fixture
def still(monkeypatch):
    """A clock that only the test moves."""
    return FakeTime(monkeypatch)


@pytest.fixture
def clock(still, monkeypatch):
    """A clock that only pauses and the fake service move."""
    monkeypatch.setattr(asyncio, "sleep", still.sleep)
    return still


class FakeService:
    """A service that is down from one time to another."""

    def __init__(self, clock, *, down=(0.0, 0.0)):
        self.clock = clock
        self.down = down
        self.calls = 0

    async def attempt(self, only_once):
        self.calls += 1
        self.clock.now += 0.125
        attempted_at = self.clock.now
        if self.down[0] <= attempted_at < self.down[1]:
            raise ServiceError("no connection", attempted_at=attempted_at, is_outage=True)
        return self.calls


def test_calls_wait_for_a_service_that_is_down(clock, caplog):
    service = FakeService(clock)

    async def main():
        circuit, downtime = Circuit("the judge"), measure_downtime()
        await circuit.call(service.attempt, budget_s=600.0)
        service.down = (clock.now, clock.now + 120.0)
        replies = await asyncio.gather(*(circuit.call(service.attempt, budget_s=600.0) for _ in range(3)))
        return replies, downtime.seconds

    replies, waited_s = asyncio.run(main())
    assert len(set(replies)) == 3
    assert clock.pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert 120 <= waited_s <= 124
    # 1 before the outage, 1 that found it, 9 that tried one after another, 2 that waited for the others
    assert service.calls == 1 + 1 + 9 + 2
    assert caplog.messages[0] == "the judge does not answer; calls wait for up to 600 s: no connection"
    assert caplog.messages[1].startswith("the judge answers again after 12")
    assert len(caplog.messages) == 2


def test_calls_fail_after_the_budget_and_later_ones_at_once(clock):
    service = FakeService(clock)

    async def main():
        circuit = Circuit("the judge")
        await circuit.call(service.attempt, budget_s=60.0)
        service.down = (clock.now, clock.now + 1000.0)
        began = clock.now
        failed = await asyncio.gather(
            *(circuit.call(service.attempt, budget_s=60.0) for _ in range(3)), return_exceptions=True
        )
        took_s, clock.pauses = clock.now - began, []
        with pytest.raises(ServiceError):
            await circuit.call(service.attempt, budget_s=60.0)
        assert clock.pauses == []
        clock.now += 1000.0
        await circuit.call(service.attempt, budget_s=60.0)
        return failed, took_s

    failed, took_s = asyncio.run(main())
    assert [str(error) for error in failed] == ["no connection"] * 3
    assert 60 <= took_s <= 60 + 30 + 2


def test_a_service_that_never_answered_is_not_waited_for(clock):
    service = FakeService(clock, down=(0.0, 1e9))
    with pytest.raises(ServiceError):
        asyncio.run(Circuit("the judge").call(service.attempt, budget_s=600.0))
    assert (service.calls, clock.pauses) == (1, [])


def test_a_call_that_fails_alone_is_not_waited_for(clock):
    service = FakeService(clock)

    async def main():
        circuit = Circuit("the judge")

        async def fails(only_once):
            attempted_at = clock.now
            await circuit.call(service.attempt, budget_s=600.0)  # another call gets an answer meanwhile
            raise ServiceError("no reply within 10 s", attempted_at=attempted_at, is_outage=True)

        await circuit.call(service.attempt, budget_s=600.0)
        with pytest.raises(ServiceError):
            await circuit.call(fails, budget_s=600.0)

    asyncio.run(main())
    assert clock.pauses == []


def test_a_refusal_is_an_answer(clock):
    async def refuses(only_once):
        raise ServiceError("status 401", attempted_at=clock.now, is_outage=False)

    with pytest.raises(ServiceError, match="401"):
        asyncio.run(Circuit("the judge").call(refuses, budget_s=600.0))
    assert clock.pauses == []


@pytest.fixture
def restartable():
    """A service on a port that it can leave and take again."""

    class Service:
        def __init__(self):
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
            self.server = None
            self.replies = 0

        async def start(self):
            self.server = await asyncio.start_server(self._reply, "127.0.0.1", self.port)

        async def stop(self):
            self.server.close()
            await self.server.wait_closed()

        async def _reply(self, reader, writer):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
            await reader.readexactly(int(length.partition(b":")[2]))
            self.replies += 1
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 15\r\n\r\n" + b'{"reward": 0.5}')
            await writer.drain()
            writer.close()

    return Service()


@pytest.mark.parametrize("comes_back", [True, False])
def test_an_outage_longer_than_the_deadline_costs_time_but_no_reward(restartable, still, monkeypatch, comes_back):
    monkeypatch.setattr(outage, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(outage, "LONGEST_PAUSE_S", 0.01)
    service = f"http://127.0.0.1:{restartable.port}"
    entry = {"use": "endpoint", "url": f"{service}/grade", "timeout_s": 30.0, "attempts": 1, "outage_s": 300.0}
    grader = load_grader("judge", entry)

    async def main():
        panel = Panel([grader], max_fault_share=1.0)

        async def grade(name):
            return await panel.grade([make_task(name)], stream(make_rollouts(["x", "y"], name)), rollouts_per_task=2)

        try:
            await restartable.start()
            [before] = await grade("a")
            await restartable.stop()
            still.now += 1.0
            grading = asyncio.create_task(grade("b"))
            while (wait := current_wait()) is None or wait.what != f"{service} to answer again":
                await asyncio.sleep(0.01)
            still.now += 200.0 if comes_back else 400.0
            if comes_back:
                await restartable.start()
            [after] = await asyncio.wait_for(grading, 60.0)
            if comes_back:
                await restartable.stop()
            return before, after
        finally:
            panel.close()

    before, after = asyncio.run(main())
    assert before.rewards == [0.5, 0.5]
    assert after.rewards == ([0.5, 0.5] if comes_back else [None, None])
    status = Status.OK if comes_back else Status.GRADER_ERROR
    assert [grade.scores["judge"].status for grade in after.grades] == [status] * 2


WAITING = """
import asyncio
from rft.grading.clients import outage

async def waits(completion):
    if completion == "for a service":
        with outage._downtime.get().counted():
            await moved(1000.0)
    elif completion == "for itself":
        await moved(1000.0)
    return 0.5

async def moved(seconds):
    outage.monotonic.__closure__[0].cell_contents.now += seconds
    await asyncio.sleep(0.1)
"""


def test_the_deadline_of_a_call_stands_still_while_a_service_is_down(bench, still):
    bench.file(WAITING)
    texts = ["for a service", "for itself", "not at all"]
    scores = {}
    for text in texts:  # one after another, because they move one clock
        [scores[text]] = bench.grade({"g": bench.spec("waits", timeout_s=0.05)}, [text])[0]["g"]
    assert [scores[text].value for text in texts] == [0.5, None, 0.5]
    assert scores["for itself"].status is Status.TIMEOUT


def test_wrong_budgets():
    with pytest.raises(ValueError, match="outage_s at least 0"):
        Endpoint(url="http://localhost/", outage_s=-1.0)
