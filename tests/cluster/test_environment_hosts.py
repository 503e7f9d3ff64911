"""Environments on other nodes: a test kills their hosts, which are objects of this process; processes are scripts."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from rft.cluster import host_link
from rft.cluster.environment_hosts import MAX_PLACINGS, NodeHost
from rft.cluster.host_link import HostLink
from rft.config.environment import EnvironmentConfig
from rft.episodes import host as host_module
from rft.episodes.attempt import Ending
from rft.episodes.contract import Reply
from rft.episodes.host import EnvironmentHost
from rft.episodes.user_code import UserCode
from rft.episodes.workers import MAX_LOST_HOSTS, EnvironmentWorkers
from rft.errors import EpisodeError, WaitTimeout
from rft.types import Split, Status, Task
from tests.sampling.fake_actors import FakeActor

CODE = UserCode({"my_env.py": b"async def guess(task, policy): ..."}, ".")


class Script:
    """A process that asks once, and scores 0.5 when it has its answer and `gate` is open."""

    def __init__(self, gate: asyncio.Event, begun: Counter[str]) -> None:
        self.is_lost = False
        self._gate, self._begun = gate, begun
        self._scores: set[asyncio.Task[None]] = set()

    def attach(self, received: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        self._received, self._lost = received, lost

    def write(self, data: bytes) -> None:
        match json.loads(data):
            case {"play": number, "task": task}:
                self._begun[task["id"]] += 1
                self._say({"ask": number, "messages": [{"role": "user", "content": task["id"]}]})
            case {"reply": number}:
                self._scores.add(asyncio.create_task(self._score(number)))
            case {"cancel": number}:
                self._say({"fault": number, "reason": "cancelled", "traceback": "", "threads": 0})
            case {"count": number}:
                self._say({"count": number, "under_way": [], "left": 0})

    async def _score(self, number: int) -> None:
        await self._gate.wait()
        self._say({"score": number, "value": 0.5, "reason": None})

    def _say(self, message: dict[str, Any]) -> None:
        self._received(json.dumps(message).encode())

    def kill(self) -> None:
        if not self.is_lost:
            self.is_lost = True
            self._lost()

    async def end(self) -> None:
        self.kill()


class Places:
    """The hosts of one place, on nodes with these names; `WaitTimeout` once there is no further one."""

    def __init__(self, *names: str, folder: Path) -> None:
        self.actors: list[FakeActor] = []
        self._names, self._folder = iter(names), folder

    async def start(self) -> tuple[FakeActor, str]:
        if (name := next(self._names, None)) is None:
            raise WaitTimeout("a node for environments", 1.0)
        self.actors.append(FakeActor(EnvironmentHost(str(self._folder), CODE, {})))
        return self.actors[-1], name

    async def end(self, actor: FakeActor) -> None:
        actor.die()


class Talk:
    """A policy that repeats what it hears."""

    rewarded = None

    def reward(self, value: float) -> None:
        raise AssertionError

    async def say(self, messages: Any, tools: Any = None) -> Reply:
        return Reply(text=messages[-1]["content"], stop="stop")


class World:
    """Workers on hosts, and what happened to them."""

    def __init__(self, tmp_path: Path) -> None:
        self.gate, self.begun = asyncio.Event(), Counter[str]()
        self.told: list[str] = []
        self.log = tmp_path / "environment.log"
        self.loads: list[dict[str, Any]] = []
        self.is_broken = False
        self.places: list[Places] = []

    async def started(self, first: dict[str, Any], output: Any, **where: Any) -> tuple[Script, str]:
        """In place of a process."""
        self.loads.append(first)
        assert (where["folder"] / "my_env.py").read_bytes() == CODE.files["my_env.py"]
        if self.is_broken:
            raise EpisodeError("a process for the environment my_env.py:guess ended while it started: no module words")
        output.write(b"loaded\n")
        output.flush()
        return Script(self.gate, self.begun), "5ha"

    def play(self, workers: EnvironmentWorkers, num: int) -> asyncio.Future[list[tuple[Ending, Talk]]]:
        tasks = [Task(id=str(each), messages=(), item={}, split=Split.TRAIN) for each in range(num)]
        return asyncio.gather(*(workers.play(task, 7, Talk) for task in tasks))

    async def until(self, found: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not found():
                await asyncio.sleep(0)


def run(
    job: Callable[[World, EnvironmentWorkers], Coroutine[Any, Any, None]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *names: tuple[str, ...],
    is_broken: bool = False,
) -> World:
    """Run a job with a place for each tuple of names, whose hosts follow each other."""

    async def main() -> World:
        world = World(tmp_path)
        world.is_broken = is_broken
        monkeypatch.setattr(host_module, "start_process", world.started)
        world.places = [Places(*each, folder=tmp_path / "node") for each in names]
        hosts = [
            NodeHost(place, num_workers=2, log=world.log, tell=world.told.append, warn=world.told.append)
            for place in world.places
        ]
        workers = EnvironmentWorkers(EnvironmentConfig(use=f"{Path.cwd()}/my_env.py:guess"), hosts=hosts)
        try:
            for host in hosts:
                await host.open()
            await workers.start()
            await job(world, workers)
        finally:
            await workers.close()
            for host in hosts:
                await host.close()
        return world

    return asyncio.run(main())


def test_episodes_are_spread_over_the_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def job(world: World, workers: EnvironmentWorkers) -> None:
        playing = world.play(workers, 6)
        await world.until(lambda: len(world.begun) == 6)
        world.gate.set()
        assert [ending.score.value for ending, _ in await playing] == [0.5] * 6
        assert workers.metrics() == {"environment/open_max/a_6f": 3.0, "environment/open_max/b": 3.0}
        assert workers.metrics() == {"environment/open_max/a_6f": 0.0, "environment/open_max/b": 0.0}
        assert (workers.num_open, await workers.count_left(), workers.pids) == (0, 0, [])

    world = run(job, tmp_path, monkeypatch, ("a (6f)",), ("b",))
    assert world.begun == Counter({str(each): 1 for each in range(6)})
    assert [first["use"] for first in world.loads] == ["my_env.py:guess"] * 4
    assert world.log.read_bytes() == b"loaded\n" * 4
    assert world.told == []


def test_a_port_of_the_driver_is_reached_from_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(2 * await reader.readline())
        writer.close()

    async def job(world: World, workers: EnvironmentWorkers) -> None:
        server = await asyncio.start_server(repeat, "127.0.0.1", 0)
        [host] = workers._hosts
        here = server.sockets[0].getsockname()[1]
        there = await host.reach(here)
        assert there == await host.reach(here) != here
        async with asyncio.timeout(60):
            for word in (b"a\n", b"b\n"):
                reader, writer = await asyncio.open_connection("127.0.0.1", there)
                writer.write(word)
                assert await reader.read() == 2 * word
                writer.close()
        server.close()

    run(job, tmp_path, monkeypatch, ("a",))


def test_a_host_that_dies_costs_no_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def job(world: World, workers: EnvironmentWorkers) -> None:
        playing = world.play(workers, 6)
        await world.until(lambda: len(world.begun) == 6)
        world.places[0].actors[0].die()
        await world.until(lambda: sum(world.begun.values()) == 9)
        world.gate.set()
        endings = [ending for ending, _ in await playing]
        assert [(ending.score.value, ending.score.status) for ending in endings] == [(0.5, Status.OK)] * 6
        await world.until(lambda: len(world.told) == 2)
        assert workers.metrics()["recovery/environment_hosts"] == 1.0
        assert "recovery/environment_hosts" not in workers.metrics()
        await world.play(workers, 6)
        assert workers.metrics()["environment/open_max/c"] == 3.0

    world = run(job, tmp_path, monkeypatch, ("a", "c"), ("b",))
    assert world.told == [
        "the environments on node a are gone: The actor died.; their episodes begin anew",
        "node c has environments again",
    ]


def test_a_full_disk_loses_output_and_no_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def job(world: World, workers: EnvironmentWorkers) -> None:
        playing = world.play(workers, 2)
        await world.until(lambda: len(world.begun) == 2)
        world.gate.set()
        assert [ending.score.value for ending, _ in await playing] == [0.5] * 2
        assert all(host.is_up for host in workers._hosts)

    (tmp_path / "environment.log").mkdir()  # an OSError at each write, like a full disk
    world = run(job, tmp_path, monkeypatch, ("a",))
    assert world.told == [f"{world.log}: Is a directory; what environments on a print now is lost"]


def test_an_error_while_news_is_passed_on_loses_the_host(tmp_path: Path) -> None:
    """A loop that ends must not leave a host that seems to be there, and that nobody hears."""

    def printed(output: bytes) -> None:
        raise RuntimeError("a fault of rft")

    async def main() -> list[str]:
        lost: list[str] = []
        host = EnvironmentHost(str(tmp_path), CODE, {})
        os.write(host._output.fileno(), b"hello")
        link = HostLink(FakeActor(host), lost.append, printed)
        host._news.set()
        async with asyncio.timeout(60):
            await link.settle()
            await link._loss
            await link.settle()
        await link.close()
        assert link.is_lost
        return lost

    assert asyncio.run(main()) == ["RuntimeError: a fault of rft"]


def test_a_host_that_does_not_answer_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> list[str]:
        lost: list[str] = []
        link = HostLink(FakeActor(EnvironmentHost(str(tmp_path), CODE, {})), lost.append, lambda output: None)
        await asyncio.sleep(0)  # the loops begin
        await link._end_loops()  # whatever has ended them
        monkeypatch.setattr(host_link, "SILENT_S", 0.01)
        async with asyncio.timeout(60):
            await link.settle()
        assert link.is_lost
        return lost

    assert asyncio.run(main()) == ["timed out after 0.01 s waiting for a node with environments to answer"]


def test_an_episode_whose_hosts_are_lost_again_and_again_has_no_reward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def job(world: World, workers: EnvironmentWorkers) -> None:
        playing = world.play(workers, 1)
        for lost in range(MAX_LOST_HOSTS):
            await world.until(lambda: world.begun["0"] == lost + 1)  # noqa: B023
            world.places[0].actors[lost].die()
        [(ending, _)] = await playing
        assert (ending.score.value, ending.score.status) == (None, Status.ENVIRONMENT_ERROR)
        assert ending.score.reason == "the node of its environment was lost 3 times"

    run(job, tmp_path, monkeypatch, tuple("abcd"))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("a",), "node a has no environments any more: .* waiting for a node for environments"),
        (tuple("aaaaaaaa"), f"node a has no environments any more: {MAX_PLACINGS} hosts have ended in its place"),
    ],
)
def test_a_run_without_hosts_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], reason: str
) -> None:
    async def job(world: World, workers: EnvironmentWorkers) -> None:
        [place] = world.places
        while True:
            num_begun = sum(world.begun.values())
            playing = world.play(workers, 1)
            await world.until(lambda: playing.done() or sum(world.begun.values()) > num_begun)  # noqa: B023
            place.actors[-1].die()
            await world.until(lambda: playing.done() or sum(world.begun.values()) > num_begun + 1)  # noqa: B023
            world.gate.set()
            await playing
            world.gate.clear()

    with pytest.raises(EpisodeError, match=reason):
        run(job, tmp_path, monkeypatch, names)


def test_a_node_that_cannot_load_the_environment_is_named_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def job(world: World, workers: EnvironmentWorkers) -> None:
        raise AssertionError

    with pytest.raises(EpisodeError, match=r"my_env\.py:guess ended while it started: no module words"):
        run(job, tmp_path, monkeypatch, ("a",), is_broken=True)
