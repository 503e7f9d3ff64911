"""Environments in real processes: what they return, and what goes wrong with them."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from rft.config.environment import EnvironmentConfig
from rft.episodes.attempt import Ending
from rft.episodes.contract import EpisodeOver, Reply
from rft.episodes.loading import asks_never, load_environment
from rft.episodes.local_process import DriverHost
from rft.episodes.process import EnvironmentProcess
from rft.episodes.workers import EnvironmentWorkers
from rft.errors import EpisodeError
from rft.types import Message, Split, Status, Task

ENVIRONMENTS = """
import asyncio, os, random, sys, time
from pathlib import Path

async def twice(task, policy, seed):
    first = await policy("a")
    second = await policy([{"role": "tool", "content": first.text}])
    return [first.text, second.text, seed] == ["1 a", "2 " + first.text, 7]

async def answer(task, policy, found):
    return found[task.id]

async def by_turn(task, policy, found):
    value, times = found[task.id]
    for turn in range(times):
        await policy()
        policy.reward(0.25)
        policy.reward(turn)
    return value

async def too_early(task, policy):
    policy.reward(1)

async def unlimited(task, policy):
    await policy()
    policy.reward(float("inf"))

async def leading(task, policy):
    return os.getsid(0) == os.getpid()

async def no_score(task, policy):
    await policy()

async def wrong(task, policy):
    return "much"

async def raising(task, policy):
    print("seen", task.item["number"])
    await policy()
    raise KeyError("secret")

async def ending(task, policy):
    sys.exit(3)

async def cancelling(task, policy):
    raise asyncio.CancelledError

async def doubled(task, policy):
    await asyncio.gather(policy("a"), policy("b"))

async def limited(task, policy):
    while True:
        await policy("more")

async def catching(task, policy):
    try:
        while True:
            await policy("more")
    except Exception as over:
        return 0.25 if type(over).__name__ == "EpisodeOver" else None

async def speechless(task, policy):
    await policy("refused")

async def named(task, policy, seed):
    given = [seed] if task.id == "twice" else []
    return await globals()[task.id](task, policy, *given)

LEFT = []

async def leaving(task, policy):
    LEFT.append(asyncio.create_task(asyncio.Event().wait()))
    await policy()
    return 1.0

async def slow(task, policy, folder):
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        Path(folder, task.id).write_text("closed")

async def stubborn(task, policy, folder):
    if task.id == "bad":
        try:
            await asyncio.Event().wait()
        finally:
            while True:
                time.sleep(1)
    Path(folder, task.id + str(os.getpid())).write_text("")
    while not Path(folder, "go").exists():
        await asyncio.sleep(0.01)
    return 1.0

async def crashing(task, policy, folder):
    if task.id == "bad":
        os._exit(9)
    while not Path(folder, "go").exists():
        await asyncio.sleep(0.01)
    return 1.0

async def editing(task, policy):
    with open(__file__, "a") as file:
        file.write("# changed")
    os._exit(9)

async def calling(task, policy):
    return policy.base_url

def plain(task, policy):
    return 1.0

async def alone(task):
    return 1.0
"""


class Talk:
    """A policy that repeats what it hears, with the number of its turn, three times at most."""

    def __init__(self) -> None:
        self.turns = 0
        self.rewards: list[tuple[int, float]] = []

    @property
    def rewarded(self) -> float | None:
        return sum(reward for _, reward in self.rewards) if self.rewards else None

    def reward(self, value: float) -> None:
        self.rewards.append((self.turns, value))

    async def say(self, messages: Sequence[Message], tools: Any = None) -> Reply:
        self.turns += 1
        if self.turns > 3:
            raise EpisodeOver("environment.max_turns=3")
        if messages and messages[-1]["content"] == "refused":
            raise ValueError("there is nothing to answer")
        return Reply(text=f"{self.turns} {messages[-1]['content'] if messages else ''}", stop="stop")


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., list[Ending]]:
    """`play("twice", "t", "u", timeout_s=5)`: the ends of episodes of these tasks, played at the same time."""
    file = tmp_path / "envs.py"
    file.write_text(ENVIRONMENTS)

    def run(
        name: str,
        *tasks: str,
        during: Callable[[], Coroutine[Any, Any, None]] | None = None,
        left: int = 0,
        **settings: Any,
    ) -> list[Ending]:
        config = EnvironmentConfig(use=f"{file}:{name}", num_workers=1, **settings)

        async def main() -> list[Ending]:
            workers = EnvironmentWorkers(config, lowest=-1.0, log=tmp_path / "environment.log")
            try:
                plays = [
                    workers.play(Task(id=each, messages=(), item={"number": 5}, split=Split.TRAIN), 7, Talk)
                    for each in tasks or ("t",)
                ]
                meanwhile = asyncio.create_task(during()) if during else None
                ended = await asyncio.gather(*plays)
                if meanwhile:
                    await meanwhile
                assert (workers.num_open, await workers.count_left()) == (0, left)
                return [ending for ending, _ in ended]
            finally:
                await workers.close()

        return asyncio.run(main())

    return run


def test_scores(play: Any) -> None:
    endings = play("answer", "a", "b", "c", options={"found": {"a": True, "b": 0, "c": -0.5}})
    assert [(ending.score.value, ending.score.status) for ending in endings] == [
        (1.0, Status.OK),
        (0.0, Status.OK),
        (-0.5, Status.OK),
    ]


def test_how_episodes_end(play: Any) -> None:
    endings = play("named", "twice", "leading", "no_score", "catching", "limited")
    assert [(ending.score.value, ending.score.status, ending.is_over) for ending in endings] == [
        (1.0, Status.OK, False),
        (1.0, Status.OK, False),  # a signal to the driver's process group does not reach it
        (None, Status.SKIPPED, False),
        (0.25, Status.OK, False),
        (-1.0, Status.NO_ANSWER, True),  # a limit that is not caught gets the lowest score
    ]


def test_a_fault_has_no_value(play: Any) -> None:
    reasons = {
        "wrong": r"returned the str 'much'; an environment returns a finite number, or None",
        "raising": r"KeyError: 'secret' \(.*envs\.py:\d+\)$",
        "ending": r"called sys\.exit\(3\)",
        "cancelling": "CancelledError",
        "doubled": "RuntimeError: the policy is still speaking",
        "speechless": "ValueError: there is nothing to answer",
        "too_early": "ValueError: a reward needs a turn of the policy before it",
        "unlimited": "ValueError: a reward must be finite, not inf",
        "calling": "RuntimeError: the policy has no address for clients of OpenAI's API in an audit; await",
    }
    for reason, ending in zip(reasons.values(), play("named", *reasons), strict=True):
        assert (ending.score.value, ending.score.status) == (None, Status.ENVIRONMENT_ERROR)
        assert re.search(reason, ending.score.reason), ending.score.reason


def test_the_score_is_the_sum_of_the_rewards_by_turn_and_of_the_returned_number(play: Any) -> None:
    """At the limit of three turns nothing is returned: the rewards so far stand."""
    found = {"a": (None, 2), "b": (0.5, 2), "c": (0.5, 0), "d": (9.0, 4)}
    endings = play("by_turn", *found, options={"found": found})
    assert [ending.score.value for ending in endings] == [1.5, 2.0, 0.5, 3.75]
    assert {ending.score.status for ending in endings} == {Status.OK}


def test_an_episode_out_of_time_closes(play: Any, tmp_path: Path) -> None:
    endings = play("slow", "a", "b", timeout_s=2, options={"folder": str(tmp_path)})
    assert [ending.score.status for ending in endings] == [Status.ENVIRONMENT_ERROR] * 2
    assert "no end within 2 s (environment.timeout_s)" in endings[0].score.reason
    assert (tmp_path / "a").exists() and (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("name", "settings"), [("stubborn", {"timeout_s": 1, "close_timeout_s": 0.5}), ("crashing", {})]
)
def test_the_neighbours_of_a_bad_episode_begin_anew(
    play: Any, tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    """One that hangs is killed, one that ends its process is told; the other episodes are played again."""
    options = {"folder": str(tmp_path)}
    tasks = ["bad"] if name == "stubborn" else ["bad", "good"]

    async def go() -> None:
        (tmp_path / "go").write_text("")

    endings = play(name, *tasks, during=go, options=options, **settings)
    assert endings[0].score.status is Status.ENVIRONMENT_ERROR
    assert [ending.score.value for ending in endings[1:]] == [1.0] * (len(tasks) - 1)


def test_what_episodes_leave_open_is_counted(play: Any) -> None:
    """`play` expects that others leave nothing."""
    assert [ending.score.value for ending in play("leaving", "t", "u", left=2)] == [1.0, 1.0]


def test_code_that_changes_during_a_run_ends_it(play: Any) -> None:
    with pytest.raises(EpisodeError, match="editing has changed since the run began"):
        play("editing")


def test_output_is_kept(play: Any, tmp_path: Path) -> None:
    assert play("raising")[0].score.value is None
    log = (tmp_path / "environment.log").read_text()
    assert log.startswith("seen 5\ntask t:\nTraceback")
    assert "KeyError: 'secret'" in log


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("plain", {}, "is no coroutine function; begin it with 'async def'"),
        ("alone", {}, "takes no 'policy'"),
        ("answer", {}, "needs found; set it in environment.options"),
        ("answer", {"found": 1, "size": 2}, "takes no size"),
        ("twice", {"seed": 2}, "rft passes seed itself"),
        ("gone", {}, "has no 'gone'"),
    ],
)
def test_what_is_no_environment(tmp_path: Path, name: str, options: dict[str, Any], reason: str) -> None:
    file = tmp_path / "envs.py"
    file.write_text(ENVIRONMENTS)
    with pytest.raises(ValueError, match=reason):
        load_environment(f"{file}:{name}", options)
    with pytest.raises(ValueError, match="names no environment"):
        load_environment(name, options)


def test_an_environment_that_never_asks(tmp_path: Path) -> None:
    file = tmp_path / "envs.py"
    file.write_text(ENVIRONMENTS)
    found = {name: asks_never(load_environment(f"{file}:{name}", {})) for name in ("twice", "leading", "doubled")}
    assert found == {"twice": False, "leading": True, "doubled": False}


def test_a_process_in_which_calls_hang_begins_no_more_episodes() -> None:
    class Silent:
        def attach(self, received: Callable[[bytes], None], lost: Callable[[], None]) -> None:
            self.received = received

    connection: Any = Silent()
    process, retired = EnvironmentProcess(connection, DriverHost(1, None), "sha"), []
    for threads in (0, 3, 4, 0):
        line = {"fault": 5, "reason": "late", "traceback": "", "threads": threads}
        connection.received(json.dumps(line).encode())
        retired.append(process.is_retired)
    assert retired == [False, False, True, True]


def test_why_a_process_ended_while_it_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder that lacks rft stands for a machine on which it cannot be imported."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    Path(sys.executable).write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'rft'\" >&2\nexit 1\n")
    Path(sys.executable).chmod(0o755)
    workers = EnvironmentWorkers(EnvironmentConfig(use="envs.py:twice"), log=tmp_path / "environment.log")
    task = Task(id="t", messages=(), item={}, split=Split.TRAIN)
    reason = r"a process for the environment envs.py:twice ended while it started: ModuleNotFoundError: No module named"
    with pytest.raises(EpisodeError, match=reason):
        asyncio.run(workers.play(task, 0, Talk))
