"""One attempt to play an episode in a process: what its environment says, and what the policy answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, TypeVar

from rft.config.environment import EnvironmentConfig
from rft.episodes.contract import EpisodeOver, Reply
from rft.episodes.endpoint.session import Session
from rft.episodes.process import EnvironmentProcess
from rft.types import Message, Score, Status, Task
from rft.waiting import waiting

SHORTEST_WAIT_S = 0.05
"""Between two looks at the time that an environment has left."""
NO_SCORE = Score(value=None, status=Status.SKIPPED, reason="the environment returned no score")


class Talk(Protocol):
    """The policy's side of one episode."""

    async def say(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None) -> Reply:
        """Sample the next turn after these messages.

        Args:
            messages: What the policy has not heard yet.
            tools: The episode's own tools, with the first messages; None keeps those of the run.

        Raises:
            EpisodeOver: The episode has reached a limit.
            ValueError: The messages cannot be rendered.
        """

    def reward(self, value: float) -> None:
        """Reward the last turn of the policy."""

    @property
    def rewarded(self) -> float | None:
        """Sum of the rewards by turn; None if the environment gave none."""


T = TypeVar("T", bound=Talk)


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of an episode.

    Example:
        Ending(Score(value=1.0), is_over=False)
    """

    score: Score
    """The environment's score; of a fault with the reason, and without a value."""
    is_over: bool = False
    """Whether the environment ended because a limit was reached."""
    traceback: str = ""
    """Traceback of an exception."""
    is_refused: bool = False
    """Whether the exception comes from a request that was refused."""


class Attempt:
    """One attempt to play an episode in a process."""

    def __init__(self, number: int, process: EnvironmentProcess, config: EnvironmentConfig) -> None:
        self._number = number
        self._process = process
        self._config = config
        self._inbox: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._left_s = config.timeout_s

    async def play(self, task: Task, seed: int, talk: Talk) -> Ending | None:
        """Play the episode; return None if its process ended, and another episode or its host may be to blame."""
        process, number = self._process, self._number
        process.inboxes[number] = self._inbox
        fields = {name: value for name, value in asdict(task).items() if name != "where"}
        session = talk if isinstance(talk, Session) else None
        process.send({"play": number, "task": fields, "seed": seed, **(session.address if session else {})})
        try:
            while True:
                message = await self._next(f"the environment of task {task.id}", session)
                match message:
                    case None:
                        return None
                    case {"ask": _}:
                        await self._answer(message, talk)
                    case {"reward": _}:
                        talk.reward(message["value"])
                    case {"score": _}:
                        return _scored(message, talk)
                    case {"over": _}:
                        return Ending(NO_SCORE, is_over=True)
                    case _:
                        failed = fault(message["reason"], message["traceback"])
                        return replace(failed, is_refused=message.get("is_refused", False))
        except TimeoutError:
            await self._cancel()
            await process.settle()
            if process.is_host_lost:
                return None
            return fault(f"no end within {self._config.timeout_s:g} s (environment.timeout_s)")
        except BaseException:  # cancelled, or the policy could not be sampled
            await asyncio.shield(self._cancel())
            raise
        finally:
            process.inboxes.pop(number, None)

    async def _next(self, what: str, session: Session | None) -> dict[str, Any] | None:
        """Return the next message of the environment; None if its process has ended.

        The time in which it waits for the policy through the endpoint does not count.

        Raises:
            TimeoutError: The environment has used up its time.
        """
        if self._process.is_lost and self._inbox.empty():
            return None
        while True:
            began_s, waited_s = time.monotonic(), session.waited_s if session else 0.0
            try:
                with waiting(what, deadline_s=self._left_s):
                    async with asyncio.timeout(max(self._left_s, SHORTEST_WAIT_S)):
                        return await self._inbox.get()
            except TimeoutError:
                if session is None or session.waited_s == waited_s:
                    raise
            finally:
                self._left_s -= time.monotonic() - began_s - ((session.waited_s - waited_s) if session else 0.0)

    async def _answer(self, asked: Mapping[str, Any], talk: Talk) -> None:
        try:
            reply = await talk.say(asked["messages"], asked.get("tools"))
        except EpisodeOver as over:
            self._process.send({"over": self._number, "reason": str(over)})
        except ValueError as refusal:
            self._process.send({"refused": self._number, "reason": str(refusal)})
        else:
            self._process.send({"reply": self._number, **asdict(reply)})

    async def _cancel(self) -> None:
        """Cancel the environment, and wait for its end; kill its process if it does not end in time."""
        self._process.send({"cancel": self._number})
        deadline_s = self._config.close_timeout_s
        try:
            with waiting("a cancelled episode to end (environment.close_timeout_s)", deadline_s=deadline_s):
                async with asyncio.timeout(deadline_s):
                    while not self._process.is_lost and (message := await self._inbox.get()):
                        if "ask" in message:
                            self._process.send({"over": self._number, "reason": "the episode was cancelled"})
                        elif "reward" not in message:
                            break
        except TimeoutError:
            self._process.kill()


def fault(reason: str, traceback: str = "") -> Ending:
    """Return the end of an episode without a reward, because of its environment."""
    return Ending(Score(value=None, status=Status.ENVIRONMENT_ERROR, reason=reason), traceback=traceback)


def _scored(message: dict[str, Any], talk: Talk) -> Ending:
    """Return the end of an episode. With rewards by turn, the returned number counts for the last turn."""
    value = message["value"]
    if talk.rewarded is not None:
        talk.reward(value or 0.0)
        value = talk.rewarded
    if value is None:
        return Ending(replace(NO_SCORE, reason=message["reason"] or NO_SCORE.reason))
    return Ending(Score(value=value, reason=message["reason"]))
