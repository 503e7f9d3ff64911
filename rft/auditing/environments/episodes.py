"""Plays episodes with scripted policies in worker processes, as a run would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from rft.auditing.environments.policies import Moment, ScriptedPolicy
from rft.data.tool_calls import Schema
from rft.episodes.attempt import Ending
from rft.episodes.contract import EpisodeOver, Reply
from rft.episodes.workers import EnvironmentWorkers
from rft.types import Message, Score, Status, Task

MAX_TIMEOUTS = 4
"""Episodes that may run out of time before the audit is abandoned."""
INTERRUPTED = Score(value=None, status=Status.SKIPPED, reason="interrupted by the audit")

Turned = Callable[[int], Awaitable[None]]
"""Called before each reply with the number of the turn."""


class Interrupted(Exception):
    """The audit breaks an episode off."""


class TooSlow(Exception):
    """The environment runs out of time in ordinary episodes; the audit would take hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """An episode that the audit has played.

    Example:
        Episode(task=task, seed=0, policy="idle", heard=(({"role": "user", "content": "guess"},),),
                replies=(Reply(text="done", stop="stop"),), score=Score(value=0.0), seconds=(0.01, 0.002))
    """

    task: Task
    """The task."""
    seed: int
    """The environment's seed."""
    policy: str
    """Name of the policy."""
    heard: tuple[tuple[Message, ...], ...]
    """`[K]` messages of the environment before each turn of the policy."""
    replies: tuple[Reply, ...]
    """`[K]` turns of the policy."""
    score: Score
    """The environment's score, or its fault."""
    rewards: tuple[tuple[int, float], ...] = ()
    """Rewards by turn: the number of the turn, and the reward."""
    seconds: tuple[float, ...] = ()
    """Seconds of the environment before each turn, and before the end."""

    @property
    def has_failed(self) -> bool:
        """Whether the environment is at fault."""
        return self.score.status is Status.ENVIRONMENT_ERROR

    @property
    def course(self) -> tuple[Any, ...]:
        """What must be equal for equal seeds and replies."""
        return self.heard, self.rewards, self.score.value, self.score.status

    def texts(self, turn: int) -> list[str]:
        """Return what the policy had heard before its turn: the prompt of the task, and the environment's messages."""
        messages = [*self.task.messages, *(message for before in self.heard[: turn + 1] for message in before)]
        return [str(message["content"]) for message in messages]


@dataclass(eq=False)
class Script:
    """The policy's side of an episode, without a model. Implements `rft.episodes.workers.Talk`."""

    task: Task
    policy: ScriptedPolicy
    max_turns: int
    number: int = 0
    tools: tuple[Schema, ...] = ()
    stop_at: int | None = None
    turned: Turned | None = None
    heard: list[tuple[Message, ...]] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    rewards: list[tuple[int, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    async def say(self, messages: Sequence[Message], tools: Sequence[Schema] | None = None) -> Reply:
        """Give the next reply of the script."""
        self.lap()
        if self.replies and self.replies[-1].stop == "length":
            raise EpisodeOver("the policy's turn was cut")
        if len(self.replies) >= self.max_turns:
            raise EpisodeOver(f"environment.max_turns={self.max_turns}")
        self.heard.append(tuple(dict(message) for message in messages))
        if self.stop_at == len(self.replies):
            raise Interrupted
        if self.turned is not None:
            await self.turned(len(self.replies))
        chat = [*self.task.messages, *chain.from_iterable(self.heard)]
        moment = Moment(
            identity=f"{self.task.id} {self.number}",
            heard=tuple(str(message["content"]) for message in chat),
            turn=len(self.replies),
            tools=self.tools if tools is None else tuple(tools),
        )
        self.replies.append(self.policy.turn(moment))
        self.since = time.monotonic()
        return self.replies[-1]

    def reward(self, value: float) -> None:
        """Keep the reward of the last turn."""
        self.rewards.append((len(self.replies), value))

    @property
    def rewarded(self) -> float | None:
        """Sum of the rewards; None without any."""
        return sum(value for _, value in self.rewards) if self.rewards else None

    def lap(self) -> None:
        """Keep the seconds of the environment since the last reply."""
        self.seconds.append(time.monotonic() - self.since)


class Player:
    """Plays episodes of one environment.

    Args:
        workers: The processes of the environment.
        max_turns: Turns of the policy in an episode.
        tools: The tools that a policy knows of.
        count: Called after each episode.
    """

    def __init__(
        self,
        workers: EnvironmentWorkers,
        *,
        max_turns: int,
        tools: tuple[Schema, ...] = (),
        count: Callable[[], None] = lambda: None,
    ) -> None:
        self.workers = workers
        self._max_turns = max_turns
        self._tools = tools
        self._count = count
        self._timeouts = 0

    async def play(
        self,
        task: Task,
        policy: ScriptedPolicy,
        *,
        seed: int = 0,
        number: int = 0,
        stop_at: int | None = None,
        turned: Turned | None = None,
    ) -> Episode:
        """Play one episode.

        Args:
            task: The task.
            policy: What the policy says.
            seed: Seed of the environment.
            number: Tells episodes of a task apart; random policies depend on it.
            stop_at: Number of the turn before which the episode is broken off; None plays to the end.
            turned: Called before each reply.

        Raises:
            TooSlow: Too many episodes have run out of time.
        """
        scripts: list[Script] = []

        def begin() -> Script:
            scripts.append(Script(task, policy, self._max_turns, number, self._tools, stop_at, turned))
            return scripts[-1]

        try:
            ending, _ = await self.workers.play(task, seed, begin)
        except Interrupted:
            ending = Ending(INTERRUPTED)
        script = scripts[-1]
        script.lap()
        self._count()
        if "environment.timeout_s" in (ending.score.reason or ""):
            self._timeouts += 1
            if self._timeouts > MAX_TIMEOUTS:
                raise TooSlow(f"{self._timeouts} episodes ran out of time: {ending.score.reason}")
        return Episode(
            task=task,
            seed=seed,
            policy=policy.name,
            heard=tuple(script.heard),
            replies=tuple(script.replies),
            score=ending.score,
            rewards=tuple(script.rewards),
            seconds=tuple(script.seconds),
        )

    async def cancel(self, task: Task, policy: ScriptedPolicy, *, after: int) -> None:
        """Play an episode, and cancel it while the environment works on the reply of this turn."""
        reached = asyncio.Event()

        async def turned(turn: int) -> None:
            if turn == after:
                reached.set()

        play = asyncio.create_task(self.play(task, policy, turned=turned), name="an episode to cancel")
        until = asyncio.create_task(reached.wait(), name="a turn of the episode")
        await asyncio.wait([play, until], return_when=asyncio.FIRST_COMPLETED)
        until.cancel()
        await asyncio.sleep(0)  # the reply is on its way
        play.cancel()
        await asyncio.gather(play, until, return_exceptions=True)
