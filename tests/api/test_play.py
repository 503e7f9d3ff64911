"""`rft play` with a real engine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rft.api.play import play
from rft.commands.play import play as play_command
from rft.config.commands import load_evaluation
from rft.errors import ConfigError
from rft.types import StopReason

pytestmark = pytest.mark.e2e

ENVIRONMENT = """
async def add(task, policy):
    first = await policy("1 + 1")
    await policy([{"role": "user", "content": f"<|end|> {first.stop}"}])
    return 0.5
"""


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "my_env.py").write_text(ENVIRONMENT)
    (tmp_path / "games.jsonl").write_text('{"secret": 3}\n')
    monkeypatch.chdir(tmp_path)
    given = ["environment.use=my_env.py:add", "data.test=games.jsonl", "model.path=embedded:tiny"]
    return [*given, "sampler=transformers", "sampler.max_completion_tokens=48"]


def test_an_episode_is_shown(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert play_command(words) == 0
    authors = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert authors == ["user", "policy", "user", "policy", "score"]
    short = ["graders.short.use=length", "graders.short.free_tokens=800", "graders.short.max_tokens=900"]
    assert play_command([*words, *short]) == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in shown] == [*authors, "grader", "reward"]
    assert (shown[-2][1], shown[-1][1]) == ("short:", "0.5")


def test_a_fault_of_the_environment_is_shown_and_fails(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    broken = 'async def add(task, policy):\n    print("dividing")\n    1 / 0\n    await policy()\n'
    Path("my_env.py").write_text(broken)
    assert play_command(words) == 1
    said = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert said[:2] == ["output  dividing", "fault  ZeroDivisionError: division by zero (my_env.py:3)"]
    assert said[2].startswith("traceback  Traceback")


def test_an_episode_is_returned_and_can_be_repeated(words: list[str]) -> None:
    said: list[tuple[str, str]] = []
    episode = play(load_evaluation(words), lambda author, text: said.append((author, text))).episode
    assert said[-1] == ("score", "0.5")
    assert (episode.stop, episode.environment.value) == (StopReason.STOP, 0.5)  # type: ignore[union-attr]
    assert len([author for author, _ in said if author == "policy"]) == 2
    again = play(load_evaluation(words), lambda author, text: None).episode
    assert again.completion_ids == episode.completion_ids


AGENT = """
import json, os, sys
from urllib.request import Request, urlopen

def post(url, body):
    headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
    return json.load(urlopen(Request(url, json.dumps(body).encode(), headers)))

chat = [{"role": "user", "content": f"{json.load(sys.stdin)['item']['secret']} + 1"}]
for said in ("again", "once more"):
    reply = post(os.environ["OPENAI_BASE_URL"] + "/chat/completions", {"messages": chat, "stop": ["9"]})
    chat += [reply["choices"][0]["message"], {"role": "user", "content": said}]
post(os.environ["RFT_REWARD_URL"], {"reward": 0.5})
"""


def test_an_agent_is_played_and_can_be_repeated(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(AGENT)
    given = [f"environment.command={sys.executable} agent.py", *words[1:]]
    said: list[tuple[str, str]] = []
    both = [play(load_evaluation(given), lambda author, text: said.append((author, text))) for _ in range(2)]
    episode, again = (played.episode for played in both)
    assert [author for author, _ in said] == ["user", "policy", "user", "policy", "score"] * 2
    assert (said[0][1], said[2][1], said[4][1]) == ("3 + 1", "again", "0.5")
    assert again.completion_ids == episode.completion_ids


def test_what_cannot_be_played(words: list[str]) -> None:
    config = load_evaluation(["model.path=embedded:tiny", "data.test=games.jsonl", "graders.a.use=exact"])
    with pytest.raises(ConfigError, match=r"environment\.use is missing"):
        play(config, lambda author, text: None)
