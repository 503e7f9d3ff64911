"""Commands that play episodes through real processes and a real server."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from rft.config.environment import EnvironmentConfig
from rft.episodes.attempt import Ending
from rft.episodes.command import CommandPlayer
from rft.episodes.conversation import Conversation
from rft.episodes.endpoint.server import Endpoint
from rft.errors import SampleError
from rft.types import Split, Status, Task

from .conftest import Episode, says

AGENT = """
import json, os, signal, subprocess, sys, time
from urllib.request import Request, urlopen

task = json.load(sys.stdin)
chat = []

def post(url, body):
    headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"}
    return json.load(urlopen(Request(url, json.dumps(body).encode(), headers)))

def ask(text):
    chat.append({"role": "user", "content": text})
    reply = post(os.environ["OPENAI_BASE_URL"] + "/chat/completions", {"model": "any", "messages": chat})
    chat.append(reply["choices"][0]["message"])
    return chat[-1]["content"]

def reward(value, name="reward"):
    post(os.environ["RFT_REWARD_URL"], {name: value})

"""
SCRIPTS = {
    "good": 'assert task["seed"] == 7 == int(os.environ["RFT_SEED"])\nask("a")\n'
    'reward(float(ask(task["item"]["say"])))',
    "no reward": 'ask("a")',
    "failing": 'ask("a")\nprint("seen", flush=True)\nraise SystemExit("no such tool")',
    "failing with a reward": 'ask("a")\nreward(0.25)\nraise SystemExit("too late")',
    "by turn": 'ask("a")\nreward(0.25, "turn_reward")\nask("b")\nreward(0.5, "turn_reward")',
    "by turn and at the end": 'ask("a")\nreward(0.25, "turn_reward")\nreward(0.5)',
    "by turn until a limit": 'while True:\n    ask("again")\n    reward(0.25, "turn_reward")',
    "failing with rewards by turn": 'ask("a")\nreward(0.25, "turn_reward")\nraise SystemExit("no such tool")',
    "slow with rewards by turn": 'ask("a")\nreward(0.25, "turn_reward")\ntime.sleep(600)',
    "silent": "reward(1.0)",
    "limited": 'while True:\n    ask("again")',
    "forking": 'ask("a")\nchat.clear()\ntry:\n    ask("Write a title")\nexcept OSError:\n    reward(1.0)',
    "with a child": 'ask("a")\nchild = subprocess.Popen(["sleep", "600"])\n'
    'open(task["item"]["say"], "w").write(f"{child.pid} {os.getpid()}")\nreward(1.0)',
    "stubborn": 'signal.signal(signal.SIGTERM, signal.SIG_IGN)\nask("a")\ntime.sleep(600)',
}


@pytest.fixture
def played(tokenizer: Any, tmp_path: Path) -> Callable[..., list[Ending]]:
    """`played("good", "slow", timeout_s=5)`: the ends of episodes of these agents, at the same time."""
    (tmp_path / "agent.py").write_text(AGENT + "exec(task['item']['script'])\n")

    def run(*names: str, turns: Sequence[str | Exception] = ("0.5", "0.75"), say: str = "b", **settings: Any) -> Any:
        command = shlex.join([sys.executable, str(tmp_path / "agent.py")])
        config = EnvironmentConfig(command=command, **settings)

        def begin() -> Conversation:
            return Episode(tokenizer, turns, max_turns=3).conversation

        async def main() -> list[Ending]:
            player = CommandPlayer(config, tokenizer, lowest=-1.0, log=tmp_path / "environment.log")
            try:
                tasks = [
                    Task(id=name, messages=(), item={"script": SCRIPTS[name], "say": say}, split=Split.TRAIN)
                    for name in names
                ]
                ended = await asyncio.gather(*(player.play(task, 7, begin) for task in tasks))
                assert player.num_open == 0
                return [ending for ending, _ in ended]
            finally:
                await player.close()

        return asyncio.run(main())

    return run


def test_how_episodes_end(played: Any, tmp_path: Path) -> None:
    names = ["good", "no reward", "failing", "failing with a reward", "silent", "limited", "forking"]
    ends = dict(zip(names, played(*names, turns=["0.5", "0.75", "1"]), strict=True))
    found = {name: (ending.score.value, ending.score.status) for name, ending in ends.items()}
    assert found == {
        "good": (0.75, Status.OK),
        "no reward": (None, Status.SKIPPED),
        "failing": (None, Status.ENVIRONMENT_ERROR),
        "failing with a reward": (0.25, Status.OK),
        "silent": (None, Status.ENVIRONMENT_ERROR),
        "limited": (-1.0, Status.NO_ANSWER),
        "forking": (None, Status.ENVIRONMENT_ERROR),
    }
    assert ends["failing"].score.reason == "the command ended with exit code 1: no such tool"
    assert ends["failing"].traceback == "seen\nno such tool"
    assert "never called the policy at OPENAI_BASE_URL (exit code 0)" in str(ends["silent"].score.reason)
    assert "environment.max_turns=3" in str(ends["limited"].score.reason)
    assert "it begins another conversation, with user: 'Write a title'" in str(ends["forking"].score.reason)
    assert "task failing:\nseen\nno such tool\n" in (tmp_path / "environment.log").read_text()


def test_how_episodes_with_rewards_by_turn_end(played: Any) -> None:
    """A command that fails has no reward, whatever it has given before."""
    names = ["by turn", "by turn and at the end", "by turn until a limit", "failing with rewards by turn"]
    ends = dict(zip(names, played(*names, turns=["0.5", "0.75", "1"]), strict=True))
    assert {name: (ending.score.value, ending.score.status) for name, ending in ends.items()} == {
        "by turn": (0.75, Status.OK),
        "by turn and at the end": (0.75, Status.OK),
        "by turn until a limit": (0.75, Status.OK),
        "failing with rewards by turn": (None, Status.ENVIRONMENT_ERROR),
    }


def test_a_command_out_of_time_is_killed(played: Any, tmp_path: Path) -> None:
    """It has no reward, whatever it has given before."""
    for ending in played("stubborn", "slow with rewards by turn", timeout_s=3, close_timeout_s=0.1):
        assert (ending.score.value, ending.score.status) == (None, Status.ENVIRONMENT_ERROR)
        assert "no end within 3 s" in str(ending.score.reason)
    agent = str(tmp_path / "agent.py")
    assert not [one for one in psutil.process_iter(["cmdline"]) if agent in (one.info["cmdline"] or ())]


def test_what_a_command_leaves_behind_is_killed(played: Any, tmp_path: Path) -> None:
    [ending] = played("with a child", say=str(tmp_path / "pids"))
    assert ending.score.value == 1.0
    child = int((tmp_path / "pids").read_text().split()[0])
    deadline_s = time.monotonic() + 30
    while is_running(child) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not is_running(child)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"  # nobody may have waited for it


def test_a_sampler_that_fails_ends_the_step(played: Any) -> None:
    with pytest.raises(SampleError, match="the engine is gone"):
        played("good", turns=[SampleError("the engine is gone")])


def test_an_sdk_with_a_short_time_out(tokenizer: Any) -> None:
    """OpenAI's client gives up in mid-turn, and repeats its request, which joins the turn."""

    async def main() -> None:
        episode = Episode(tokenizer, ["16"])
        endpoint = Endpoint(tokenizer)
        try:
            with endpoint.episode(episode.conversation) as session:
                episode.policy.may_answer.clear()
                client = openai.AsyncOpenAI(
                    base_url=session.base_url, api_key=session.api_key, timeout=0.5, max_retries=20
                )
                messages: Any = [{"role": "user", "content": "1 + 1"}]
                asking = asyncio.create_task(client.chat.completions.create(model="any", messages=messages))
                while not session.counts["joined"]:
                    await asyncio.sleep(0.01)
                episode.policy.may_answer.set()
                assert (await asking).choices[0].message.content == "16"
                assert len(episode.policy.requests) == 1
            metrics = endpoint.metrics()
            assert (metrics["endpoint/turns"], metrics["endpoint/refused"]) == (1.0, 0.0)
            assert metrics["endpoint/repeated"] >= 1.0
            assert endpoint.metrics() == {}
        finally:
            await endpoint.close()

    asyncio.run(main())


def test_a_client_that_gives_up_gets_its_turn_later(tokenizer: Any) -> None:
    """It disconnects in mid-turn, as an SDK does at its timeout; the repeated request has no header here."""

    async def main() -> None:
        episode = Episode(tokenizer, ["16", "8"])
        endpoint = Endpoint(tokenizer)
        try:
            with endpoint.episode(episode.conversation) as session:
                episode.policy.may_answer.clear()
                headers = {"Authorization": f"Bearer {session.api_key}"}
                async with httpx.AsyncClient(headers=headers, timeout=60) as client:
                    url, asked = f"{session.base_url}/chat/completions", [{"role": "user", "content": "1 + 1"}]
                    first = asyncio.create_task(client.post(url, json={"messages": asked}))
                    while not episode.policy.requests:
                        await asyncio.sleep(0.01)
                    first.cancel()
                    await asyncio.gather(first, return_exceptions=True)
                    for _ in range(100):  # until the server has seen it
                        await asyncio.sleep(0)
                    episode.policy.may_answer.set()
                    while not session.counts["turns"]:
                        await asyncio.sleep(0.01)
                    again = await client.post(url, json={"messages": asked})
                    assert again.json()["choices"][0]["message"]["content"] == "16"
                    await client.post(url, json={"messages": [*asked, says("16"), asked[0]]})
                    assert session.counts == {"turns": 2, "replayed": 1}
        finally:
            await endpoint.close()

    asyncio.run(main())
