"""Games of Gymnasium, GEM, SkyRL-gym and TextArena as coroutine functions.

    gymnasium   `reset(seed=)`, `step(action)` with five results; also GEM, whose actions are texts
    skyrl       SkyRL-gym: `init(prompt)`, `step(text)` with a dict
    textarena   `reset(num_players=1)`, `get_observation()`, `step(text)`, `close()` with the rewards

Their methods block, and many draw from the `random` module of the process. rft calls them in a thread, one at a time,
with a random state of the episode's own, so that neighbours do not change an episode.
"""

from __future__ import annotations

import inspect
import random
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rft.episodes.left_threads import in_thread
from rft.types import Task


class Policy(Protocol):
    """What an environment calls `policy`."""

    async def __call__(self, said: Any = None) -> Any:
        """Say something to the policy, and return its next turn."""

    def reward(self, value: float) -> None:
        """Reward the last turn of the policy."""


_ONE_AT_A_TIME = threading.Lock()


def as_coroutine(make: Callable[..., Any], style: str) -> Callable[..., Awaitable[float | None]]:
    """Return a coroutine function that plays an environment of another system.

    Args:
        make: The class, or a function that makes the environment. It gets `environment.options`.
        style: A key of `PLAYS`.
    """

    async def play(task: Task, policy: Policy, seed: int, **options: Any) -> float | None:
        own = _Own(seed)
        environment = await own.call(lambda: make(**options, **_row(make, style, task, options)))
        try:
            return await PLAYS[style](_Environment(environment, own), task, policy, seed)
        finally:
            if style != "textarena" and hasattr(environment, "close"):  # TextArena's has returned the rewards
                await own.call(environment.close)

    return play


def _row(make: Callable[..., Any], style: str, task: Task, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of the row as SkyRL-gym passes them to its environments, in the argument `extras`."""
    takes_row = style == "skyrl" and "extras" not in options and "extras" in inspect.signature(make).parameters
    return {"extras": dict(task.item)} if takes_row else {}


class _Own:
    """Runs blocking calls in a thread, with a random state that only these calls change."""

    def __init__(self, seed: int) -> None:
        self._state = random.Random(seed).getstate()

    async def call(self, function: Callable[[], Any]) -> Any:
        return await in_thread(self._call, function=function)

    def _call(self, function: Callable[[], Any]) -> Any:
        with _ONE_AT_A_TIME, self._swapped():
            return function()

    @contextmanager
    def _swapped(self) -> Iterator[None]:
        before = random.getstate()
        random.setstate(self._state)
        try:
            yield
        finally:
            self._state = random.getstate()
            random.setstate(before)


class _Environment:
    """An environment, whose methods are awaited."""

    def __init__(self, environment: Any, own: _Own) -> None:
        self.it = environment
        self._own = own

    async def __call__(self, method: str, *arguments: Any, **options: Any) -> Any:
        return await self._own.call(lambda: getattr(self.it, method)(*arguments, **options))


async def _gymnasium(environment: _Environment, task: Task, policy: Policy, seed: int) -> None:
    """Play until the end, with a reward for each turn."""
    observation, _ = await environment("reset", seed=seed)
    actions = getattr(getattr(environment.it, "action_space", None), "n", None)
    said = str(observation)
    while True:
        reply = await policy(said)
        action: Any = reply.text
        if actions is not None:
            try:
                action = int(reply.text)
            except ValueError:
                action = -1
            if not 0 <= action < actions:
                said = f"{reply.text.strip()!r} is no action; answer with a number from 0 to {actions - 1}"
                continue
        observation, reward, is_terminated, is_truncated, _ = await environment("step", action)
        policy.reward(reward)
        if is_terminated or is_truncated:
            return
        said = str(observation)


async def _skyrl(environment: _Environment, task: Task, policy: Policy, seed: int) -> None:
    """Play until the end, with a reward for each turn. The environment may add to the prompt."""
    given = [dict(message) for message in task.messages]
    prompt, _ = await environment("init", given)
    said: Any = list(prompt)[len(given) :] if list(prompt)[: len(given)] == given else None
    if said is None:
        raise ValueError("the environment changes the messages of the row; leave the prompt out of the row")
    while True:
        reply = await policy(said or None)
        step = await environment("step", reply.text)
        policy.reward(step["reward"])
        if step["done"]:
            return
        said = step["observations"]


async def _textarena(environment: _Environment, task: Task, policy: Policy, seed: int) -> float:
    """Play a game for one player until the end; the score is the player's reward."""
    await environment("reset", num_players=1, seed=seed)
    is_done = False
    while not is_done:
        player, observation = await environment("get_observation")
        if not isinstance(observation, str):  # messages: author, text, kind
            observation = "\n".join(text for author, text, *_ in observation if author != player)
        reply = await policy(observation)
        is_done, _ = await environment("step", action=reply.text)
    rewards, _ = await environment("close")
    return float(rewards[0])


PLAYS: dict[str, Callable[[_Environment, Task, Policy, int], Awaitable[float | None]]] = {
    "gymnasium": _gymnasium,
    "skyrl": _skyrl,
    "textarena": _textarena,
}
"""Plays an environment of each style."""
