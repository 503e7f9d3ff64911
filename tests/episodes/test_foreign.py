"""Environments of other systems, in the shapes of their packages."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rft.episodes.contract import Reply
from rft.episodes.loading import load_environment
from rft.types import Split, Task

PACKAGES = {
    "gymnasium": "class Env: pass",
    "gem": "class Env: pass",
    "skyrl_gym": "class Env: pass",
    "textarena": "class Env: pass",
}
ENVIRONMENTS = '''
import random
import gem, gymnasium, skyrl_gym, textarena

class Walk(gymnasium.Env):
    """Two actions; the end is three steps to the right."""
    class action_space:
        n = 2

    def reset(self, seed=None):
        self.place = 0
        return self.place, {}

    def step(self, action):
        assert type(action) is int
        self.place += action
        return self.place, 0.25, self.place == 3, False, {}

    def close(self):
        Walk.closed = True

class Draw(gem.Env):
    """Says three numbers of the process's generator."""
    def reset(self, seed=None):
        self.left = 3
        return str(random.random()), {}

    def step(self, action):
        self.left -= 1
        return str(random.random()), 0.0, False, self.left == 0, {}

class Talk(skyrl_gym.Env):
    def __init__(self, greeting="hello", extras={}):
        self.greeting = f"{greeting} {extras['name']}"

    def init(self, prompt):
        return [*prompt, {"role": "user", "content": self.greeting}], {}

    def step(self, action):
        is_done = action == "bye"
        return {"observations": [{"role": "user", "content": "again"}], "reward": 0.5, "done": is_done, "metadata": {}}

class Game(textarena.Env):
    def reset(self, num_players, seed):
        assert num_players == 1
        self.turns = 0

    def get_observation(self):
        said = f"turn {self.turns}"
        return 0, said if self.turns else [(-1, said, "prompt"), (0, "mine", "action"), (-1, "go", "board")]

    def step(self, action):
        self.turns += 1
        return self.turns == 2, {}

    def close(self):
        return {0: -1.0}, {}

def make_walk():
    return Walk()

class Alike:
    """The methods of Gymnasium, and no base class of it."""
    def reset(self, seed=None): ...
    def step(self, action): ...
'''
TASK = Task(id="t", messages=({"role": "user", "content": "prompt"},), item={"name": "Ada"}, split=Split.TRAIN)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign")
    for name, content in PACKAGES.items():
        (folder / f"{name}.py").write_text(content)
    (folder / "envs.py").write_text(ENVIRONMENTS)
    return folder / "envs.py"


class Script:
    """A policy that gives these replies; keeps what it heard, and the rewards of its turns."""

    def __init__(self, replies: Sequence[str]) -> None:
        self.heard: list[Any] = []
        self.rewards: dict[int, float] = {}
        self._replies = iter(replies)

    async def __call__(self, said: Any = None) -> Reply:
        self.heard.append(said)
        await asyncio.sleep(0)
        return Reply(text=next(self._replies), stop="stop")

    def reward(self, value: float) -> None:
        self.rewards[len(self.heard)] = value


def play(file: Path, name: str, replies: Sequence[str], seed: int = 0, **settings: Any) -> tuple[Any, list[Any]]:
    """The rewards by turn, or else the score, and what the policy heard."""
    policy = Script(replies)
    options = settings.pop("options", {})
    loaded = load_environment(f"{file}:{name}", options, **settings)
    score = asyncio.run(loaded.call(task=TASK, policy=policy, seed=seed, **options))
    assert (score is None) == bool(policy.rewards)
    return policy.rewards or score, policy.heard


@pytest.mark.parametrize(("name", "settings"), [("Walk", {}), ("make_walk", {"style": "gymnasium"})])
def test_gymnasium(file: Path, name: str, settings: dict[str, Any]) -> None:
    rewards, heard = play(file, name, ["1", "x", "2", "0", "1", " 1 "], **settings)
    assert rewards == {1: 0.25, 4: 0.25, 5: 0.25, 6: 0.25}, "no reward for what is no action"
    refusal = "{} is no action; answer with a number from 0 to 1"
    assert heard == ["0", "1", refusal.format("'x'"), refusal.format("'2'"), "1", "2"]
    module = next(module for module in sys.modules.values() if getattr(module, "__file__", None) == str(file))
    assert module.Walk.closed


def test_skyrl(file: Path) -> None:
    rewards, heard = play(file, "Talk", ["hm", "bye"], options={"greeting": "hi"})
    assert rewards == {1: 0.5, 2: 0.5}
    assert heard == [[{"role": "user", "content": "hi Ada"}], [{"role": "user", "content": "again"}]]


def test_textarena(file: Path) -> None:
    assert play(file, "Game", ["a", "b"]) == (-1.0, ["turn 0\ngo", "turn 1"])


def test_episodes_side_by_side_draw_numbers_of_their_own(file: Path) -> None:
    """Interleaved, each draws what it draws alone; the generator of the process is left as it was."""
    loaded = load_environment(f"{file}:Draw", {})
    policies = [Script([""] * 3) for _ in range(3)]

    async def all_three() -> None:
        pairs = zip(policies, (5, 6, 5), strict=True)
        await asyncio.gather(*(loaded.call(task=TASK, policy=policy, seed=seed) for policy, seed in pairs))

    before = random.getstate()
    asyncio.run(all_three())
    assert random.getstate() == before
    alone = play(file, "Draw", [""] * 3, seed=5)[1]
    assert policies[0].heard == policies[2].heard == alone
    assert policies[1].heard != alone


def test_methods_alone_tell_no_system(file: Path) -> None:
    for name in ("Alike", "make_walk"):
        with pytest.raises(
            ValueError, match=r"set environment\.style to one of gymnasium, skyrl, textarena, openenv, trl, verifiers"
        ):
            load_environment(f"{file}:{name}", {})
    told = r"Alike is a class without a base class of .*, such as environment\.style=trl for a class that TRL's"
    with pytest.raises(ValueError, match=told):
        load_environment(f"{file}:Alike", {})
