"""Worker processes for environments: they play episodes, and one that hangs is killed and replaced.

An environment that exceeds its time is cancelled. If its `finally` blocks do not end in time either, or its process
does not answer, the process is killed. The other episodes of that process begin anew, each in a process of its own,
with the same seeds, and therefore with the same turns of the policy.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rft.config.environment import EnvironmentConfig
from rft.config.tools import ToolConfig
from rft.episodes.contract import EpisodeOver, Reply
from rft.episodes.conversation import Conversation
from rft.episodes.endpoint.server import Endpoint
from rft.episodes.endpoint.session import Session
from rft.episodes.process import EnvironmentProcess, started
from rft.errors import EpisodeError
from rft.types import Message, Score, Status, Task
from rft.waiting import waiting

MAX_DEFAULT_WORKERS = 4
SHORTEST_WAIT_S = 0.05
"""Between two looks at the time that an environment has left."""
_NO_SCORE = Score(value=None, status=Status.SKIPPED, reason="the environment returned no score")


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


class EnvironmentWorkers:
    """Plays episodes in worker processes, which start when they are first needed.

    Args:
        config: The environment.
        tools: The tools of the run, in place of an environment of the user's.
        tokenizer: The policy's, for environments that reach it as an endpoint; None offers none.
        offered: What MCP servers offered at the start of the run, by entry of `tools`; others are asked.
        fingerprints: Those of the stores that tools search, by entry of `tools`; others are asked.
        lowest: Score of an episode that ends at a limit without a score.
        log: File for the output of environments; None discards it.
    """

    def __init__(
        self,
        config: EnvironmentConfig,
        *,
        tools: Mapping[str, ToolConfig] | None = None,
        offered: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        fingerprints: Mapping[str, str] | None = None,
        tokenizer: Any = None,
        lowest: float = 0.0,
        log: Path | None = None,
    ) -> None:
        self._config = config
        self._start = {
            "use": config.use,
            "options": config.options,
            "style": config.style,
            "tools": {name: entry.model_dump() for name, entry in (tools or {}).items()},
            "offered": offered or {},
            "fingerprints": fingerprints or {},
            "max_invalid_calls": config.max_invalid_calls,
            "timeout_s": config.timeout_s,
        }
        self._tokenizer = tokenizer
        self._endpoint: Endpoint | None = None
        self._lowest = lowest
        self._log = log
        cores = len(os.sched_getaffinity(0))
        self._places: list[EnvironmentProcess | None] = [None] * (
            config.num_workers or min(MAX_DEFAULT_WORKERS, max(1, cores - 1))
        )
        self._retired: list[EnvironmentProcess] = []
        self._starting = asyncio.Lock()
        self._sha256 = ""
        self._numbers = count()
        self.num_open = 0
        """Episodes under way."""

    async def play(self, task: Task, seed: int, begin: Callable[[], T]) -> tuple[Ending, T]:
        """Play one episode, like `rft.episodes.players.Player.play`.

        Raises:
            EpisodeError: The processes end before they can play an episode.
            RftError: The policy could not be sampled.
        """
        self.num_open += 1
        try:
            talk = begin()
            ending = await self._play_in(await self._least_busy(), task, seed, talk)
            if ending is None:
                talk = begin()
                ending = await self._play_alone(task, seed, talk)
            return ending, talk
        finally:
            self.num_open -= 1
            await self._end_retired()

    async def _end_retired(self) -> None:
        """End the retired processes that play no episode any more."""
        idle = [process for process in self._retired if not process.inboxes]
        self._retired = [process for process in self._retired if process.inboxes]
        await asyncio.gather(*(process.end() for process in idle))

    async def _play_alone(self, task: Task, seed: int, talk: Talk) -> Ending:
        """Play an episode in a process of its own, so that nobody else can be to blame for its end."""
        process = await self._started()
        try:
            ending = await self._play_in(process, task, seed, talk)
        finally:
            await process.end()
        return ending or _fault("it ended its process")

    async def _play_in(self, process: EnvironmentProcess, task: Task, seed: int, talk: Talk) -> Ending | None:
        episode = _Episode(next(self._numbers), process, self._config)
        if self._tokenizer is None or not isinstance(talk, Conversation):
            ending = await episode.play(task, seed, talk)
        else:
            self._endpoint = self._endpoint or Endpoint(self._tokenizer)
            with self._endpoint.episode(talk) as session:
                ending = _as_told(await episode.play(task, seed, session), session)
        if ending is not None and ending.is_over:
            reason = "the episode reached a limit"
            if talk.rewarded is not None:
                return replace(ending, score=Score(value=talk.rewarded, reason=reason))
            return replace(ending, score=Score(value=self._lowest, status=Status.NO_ANSWER, reason=reason))
        return ending

    async def _started(self) -> EnvironmentProcess:
        """Start a process with the same environment as the first one.

        Raises:
            EpisodeError: It ended, or its file has changed meanwhile.
        """
        process = await started(self._start, self._log)
        self._sha256 = self._sha256 or process.sha256
        if process.sha256 != self._sha256:
            await process.end()
            what = self._config.use or "the tools"
            raise EpisodeError(
                f"the code of {what} has changed since the run began, so some episodes would be others; bring it back "
                "and resume the run, or begin a new one"
            )
        return process

    async def _least_busy(self) -> EnvironmentProcess:
        """Return the process with the fewest episodes; start one in each empty place first."""
        async with self._starting:
            for place, process in enumerate(self._places):
                if process is not None and process.is_retired:
                    self._retired.append(process)
                if process is None or process.is_lost or process.is_retired:
                    self._places[place] = await self._started()
                    break
        usable = [process for process in self._present if not process.is_retired]
        return min(usable, key=lambda process: len(process.inboxes))

    @property
    def pids(self) -> list[int]:
        """Numbers of the running processes."""
        return [link.process.pid for link in self._present if link.process is not None]

    async def count_left(self) -> int:
        """Return the number of episodes, and of tasks that episodes started, that run although the run has ended them.

        Raises:
            WaitTimeout: A process does not answer.
        """
        return sum(await asyncio.gather(*(link.count_left(next(self._numbers)) for link in self._present)))

    @property
    def _present(self) -> list[EnvironmentProcess]:
        return [link for link in (*self._places, *self._retired) if link is not None and not link.is_lost]

    def metrics(self) -> dict[str, float]:
        """Return what became of the requests of agents since the last call, `endpoint/...`."""
        return self._endpoint.metrics() if self._endpoint is not None else {}

    async def close(self) -> None:
        """End all processes, and the endpoint."""
        if self._endpoint is not None:
            await self._endpoint.close()
        all_of_them = (*self._places, *self._retired)
        await asyncio.gather(*(process.end() for process in all_of_them if process is not None))


class _Episode:
    """One attempt to play an episode in a process."""

    def __init__(self, number: int, process: EnvironmentProcess, config: EnvironmentConfig) -> None:
        self._number = number
        self._process = process
        self._config = config
        self._inbox: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._left_s = config.timeout_s

    async def play(self, task: Task, seed: int, talk: Talk) -> Ending | None:
        """Play the episode; return None if its process ended, and another episode may be to blame."""
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
                        return Ending(_NO_SCORE, is_over=True)
                    case _:
                        return _fault(message["reason"], message["traceback"])
        except TimeoutError:
            await self._cancel()
            return _fault(f"no end within {self._config.timeout_s:g} s (environment.timeout_s)")
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


def _fault(reason: str, traceback: str = "") -> Ending:
    return Ending(Score(value=None, status=Status.ENVIRONMENT_ERROR, reason=reason), traceback=traceback)


def _as_told(ending: Ending | None, session: Session) -> Ending | None:
    """Return the end of an episode with regard to what the endpoint has seen.

    Raises:
        RftError: The policy could not be sampled.
    """
    if session.failed.done() and not session.failed.cancelled():
        session.failed.result()
    if ending is not None and session.fork:
        return _fault(session.fork, ending.traceback)
    if ending is None or not session.limit or ending.score.status is not Status.ENVIRONMENT_ERROR:
        return ending
    # A client raises its own error at a limit, which environments let through like `EpisodeOver`.
    return Ending(_NO_SCORE, is_over=True, traceback=ending.traceback)


def _scored(message: dict[str, Any], talk: Talk) -> Ending:
    """Return the end of an episode. With rewards by turn, the returned number counts for the last turn."""
    value = message["value"]
    if talk.rewarded is not None:
        talk.reward(value or 0.0)
        value = talk.rewarded
    if value is None:
        return Ending(replace(_NO_SCORE, reason=message["reason"] or _NO_SCORE.reason))
    return Ending(Score(value=value, reason=message["reason"]))
