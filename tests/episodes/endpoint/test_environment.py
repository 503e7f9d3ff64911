"""Environments of rft's own form whose agents reach the policy through the endpoint."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rft.cluster.environment_hosts import environment_hosts
from rft.config.environment import EnvironmentConfig
from rft.episodes.attempt import fault
from rft.episodes.conversation import Conversation
from rft.episodes.host import EnvironmentHost
from rft.episodes.user_code import user_code
from rft.episodes.workers import EnvironmentWorkers, _as_told
from rft.errors import SampleError
from rft.types import Split, Status, Task
from tests.sampling.fake_actors import FakeActor

from .conftest import Episode

ENVIRONMENT = """
import asyncio, json
from urllib.error import HTTPError
from urllib.request import Request, urlopen

async def ask(policy, *texts):
    chat = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]
    body, headers = json.dumps({"messages": chat}).encode(), {"Authorization": "Bearer " + policy.api_key}
    reply = await asyncio.to_thread(urlopen, Request(policy.base_url + "/chat/completions", body, headers))
    return json.load(reply)["choices"][0]["message"]["content"]

async def agent(task, policy):
    first = await ask(policy, "a")
    if task.id == "good":
        return float(await ask(policy, "a", first, "b"))
    if task.id == "forking":
        try:
            await ask(policy, "Write a title")
        except HTTPError:
            return 1.0
    if task.id in ("failing", "wrapping"):
        said = await ask(policy, "a", first, "b")
        try:
            await ask(policy, "a", first, "b", said, "c")
        except HTTPError as error:
            if task.id == "wrapping":
                raise ExceptionGroup("the agent failed", [RuntimeError("no answer")]) from error
        return {}["missing"]
    if task.id == "both":
        first = (await policy("b")).text
    said = ["a", first, "b"]
    while True:
        said += [await ask(policy, *said), "again"]
"""


class OneNode:
    """The host of a node, as an object of this process, with real processes."""

    def __init__(self, folder: Path, config: EnvironmentConfig) -> None:
        self._arguments = (str(folder), user_code(config, {}), {})

    async def start(self) -> tuple[FakeActor, str]:
        return FakeActor(EnvironmentHost(*self._arguments)), "a"

    async def end(self, actor: FakeActor) -> None:
        actor.die()


@pytest.mark.parametrize("placement", ["driver", "samplers"])
def test_how_episodes_end(tokenizer: Any, tmp_path: Path, placement: str) -> None:
    file = tmp_path / "envs.py"
    file.write_text(ENVIRONMENT)
    names = ("good", "forking", "limited", "both", "failing", "wrapping")
    turns: dict[str, list[str | Exception]] = {name: ["0.5", "0.75"] for name in names}
    turns["lost"] = [SampleError("the engine is gone")]

    async def main() -> dict[str, Any]:
        config = EnvironmentConfig(use=f"{file}:agent", num_workers=1)
        places = [OneNode(tmp_path / "node", config)] if placement == "samplers" else []
        hosts = environment_hosts(places, num_workers=1, log=tmp_path / "log", tell=print, warn=print)
        async with hosts as on_nodes:
            return await played(EnvironmentWorkers(config, tokenizer=tokenizer, lowest=-1.0, hosts=on_nodes))

    async def played(workers: EnvironmentWorkers) -> dict[str, Any]:

        async def play(name: str) -> Any:
            def begin() -> Conversation:
                return Episode(tokenizer, turns[name], max_turns=2).conversation

            task = Task(id=name, messages=(), item={}, split=Split.TRAIN)
            return (await workers.play(task, 7, begin))[0]

        try:
            ended = await asyncio.gather(*map(play, turns), return_exceptions=True)
            return dict(zip(turns, ended, strict=True))
        finally:
            await workers.close()

    ends = asyncio.run(main())
    assert isinstance(ends["lost"], SampleError)
    assert ends["good"].score.value == 0.75
    # An error at a limit is the policy's fault, also if it reaches the environment through a client.
    for name in ("limited", "wrapping"):
        assert (ends[name].score.value, ends[name].score.status) == (-1.0, Status.NO_ANSWER)
    assert "HTTPError" in ends["limited"].traceback
    faults = {
        "forking": "it begins another conversation, with user: 'Write a title'",
        "both": "message 2 is now",
        "failing": "KeyError: 'missing'",  # an error of its own after a limit that it has caught
    }
    for name, reason in faults.items():
        assert (ends[name].score.value, ends[name].score.status) == (None, Status.ENVIRONMENT_ERROR)
        assert reason in str(ends[name].score.reason)


def test_an_environment_out_of_time_after_a_limit_has_no_reward(tokenizer: Any) -> None:
    async def main() -> None:
        session = Episode(tokenizer, []).session
        session.limit = "max_turns"
        late = fault("no end within 3 s")
        assert _as_told(late, session) == late
        refused = _as_told(replace(late, is_refused=True), session)
        assert refused is not None and refused.is_over

    asyncio.run(main())
