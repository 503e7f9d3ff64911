"""The process that runs environments, many episodes at the same time on one event loop.

    python -P -m rft.episodes.worker_main <number of the socket>

Both sides send JSON lines. The first line that this process receives names the environment; the first line that it
sends says that the environment is loaded. `n` is the number of an episode:

    received                                        sent
    {"play": n, "task": {...}, "seed": 17, ...}     {"ask": n, "messages": [...]}      a turn is wanted
    {"reply": n, "text": "...", "stop": "stop",
     "calls": [...]}                                {"score": n, "value": 1.0}         the environment returned
    {"over": n}     a limit is reached              {"over": n}                        it let `EpisodeOver` through
    {"refused": n}  the messages cannot be said     {"fault": n, "reason": "...", "traceback": "...", "threads": 0,
                                                     "is_refused": false}
    {"cancel": n}                                   {"reward": n, "value": 0.5}        for the policy's last turn
    {"count": n}                                    {"count": n, "under_way": [3], "left": 0}

`left` counts the tasks that episodes have started and that outlive them, `threads` the blocking calls of tools that do.
`is_refused` says that the error is, or comes from, a client's error for a refused HTTP request.
The process ends with its socket.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import math
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from rft.data.messages import as_messages
from rft.data.tool_calls import ToolCall
from rft.episodes.contract import EpisodeOver, LoadedEnvironment, Reply
from rft.episodes.left_threads import num_left
from rft.episodes.loading import load_environment
from rft.episodes.started_tasks import EPISODE, StartedTasks
from rft.episodes.tools.tool import ToolFault
from rft.grading.normalise import describe_error, to_score, traceback_of
from rft.types import Split, Task

LINE_BYTES = 1 << 24
PR_SET_PDEATHSIG = 1
EXPECTED = "an environment returns a finite number, or None to leave the score to the graders"
NO_ADDRESS = "the policy has no address for clients of OpenAI's API in an audit; await the policy"
REFUSED = 400
"""HTTP status with which the endpoint refuses a request at a limit."""
MAX_THREADS = 256
"""Blocking calls of environments at the same time."""


class EpisodePolicy:
    """What an environment calls `policy`: each call samples one turn.

    Args:
        episode: Number of the episode.
        link: The connection.
        base_url: Address of the policy for clients of OpenAI's API.
        api_key: The key of the episode.
    """

    def __init__(self, episode: int, link: Link, *, base_url: str = "", api_key: str = "") -> None:
        self._base_url = base_url
        self.api_key = api_key
        """The key that these clients send; valid for this episode alone."""
        self._episode = episode
        self._link = link
        self._num_turns = 0
        self.reply: asyncio.Future[Reply] | None = None

    @property
    def base_url(self) -> str:
        """Address of the policy for clients of OpenAI's API, such as `http://127.0.0.1:40123/e/7/v1`.

        Raises:
            RuntimeError: The policy has none here.
        """
        if not self._base_url:
            raise RuntimeError(NO_ADDRESS)
        return self._base_url

    def reward(self, value: float) -> None:
        """Reward the last turn of the policy. Rewards of the same turn add up.

        Raises:
            TypeError: It is no number.
            ValueError: It is not finite, or the policy has had no turn.
        """
        reward = float(value)
        if not math.isfinite(reward):
            raise ValueError(f"a reward must be finite, not {reward}")
        if not self._num_turns:
            raise ValueError("a reward needs a turn of the policy before it; await the policy first")
        self._link.send({"reward": self._episode, "value": reward})

    async def __call__(self, said: Any = None, *, tools: Sequence[Mapping[str, Any]] | None = None) -> Reply:
        """Say something to the policy, and return its next turn.

        Args:
            said: A user's message as a text, or messages in OpenAI's format; None adds nothing.
            tools: With the first call, the episode's own tools in OpenAI's format; None keeps those of the run.

        Raises:
            EpisodeOver: The episode has reached a limit.
            RuntimeError: An earlier call has not returned.
            ValueError: `said` is neither a text nor messages.
        """
        if self.reply is not None:
            raise RuntimeError("the policy is still speaking; await its turn before you call it again")
        messages = as_messages(said)
        self.reply = asyncio.get_running_loop().create_future()
        try:
            self._link.send({"ask": self._episode, "messages": messages} | ({} if tools is None else {"tools": tools}))
            reply = await self.reply
            self._num_turns += 1
            return reply
        finally:
            self.reply = None


class Link(asyncio.Protocol):
    """The connection to the run, and the episodes under way.

    Args:
        environment: The environment to play.
        options: Its further arguments.
        started: The tasks that episodes start.
    """

    def __init__(self, environment: LoadedEnvironment, options: dict[str, Any], started: StartedTasks) -> None:
        self._environment = environment
        self._options = options
        self._started = started
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self._policies: dict[int, EpisodePolicy] = {}
        self._episodes: dict[int, asyncio.Task[None]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        os._exit(0)

    def send(self, message: dict[str, Any]) -> None:
        """Send a line."""
        assert self._transport is not None
        self._transport.write(json.dumps(message).encode() + b"\n")

    def _obey(self, order: dict[str, Any]) -> None:
        match order:
            case {"play": episode}:
                address = {name: order[name] for name in ("base_url", "api_key") if name in order}
                self._policies[episode] = EpisodePolicy(episode, self, **address)
                self._episodes[episode] = asyncio.create_task(self._play(episode, order))
            case {"reply": episode}:
                if (reply := self._waiting(episode)) is not None:
                    calls = tuple(ToolCall(**call) for call in order["calls"])
                    reply.set_result(Reply(text=order["text"], stop=order["stop"], calls=calls))
            case {"over": episode}:
                if (reply := self._waiting(episode)) is not None:
                    reply.set_exception(EpisodeOver(order["reason"]))
            case {"refused": episode}:
                if (reply := self._waiting(episode)) is not None:
                    reply.set_exception(ValueError(order["reason"]))
            case {"count": number}:
                left = self._started.left(self._episodes)
                self.send({"count": number, "under_way": list(self._episodes), "left": left})
            case {"cancel": episode}:
                if task := self._episodes.get(episode):
                    task.cancel()

    def _waiting(self, episode: int) -> asyncio.Future[Reply] | None:
        policy = self._policies.get(episode)
        return None if policy is None or policy.reply is None or policy.reply.done() else policy.reply

    async def _play(self, episode: int, order: dict[str, Any]) -> None:
        EPISODE.set(episode)
        given = {"task": _task(order["task"]), "policy": self._policies[episode], "seed": order["seed"]}
        arguments = {name: given[name] for name in self._environment.takes}
        try:
            score = to_score(await self._environment.call(**arguments, **self._options), EXPECTED)
            if score.status.is_grader_fault:
                self._fail(episode, score.reason or "", "")
            else:
                self.send({"score": episode, "value": score.value, "reason": score.reason})
        except EpisodeOver:
            self.send({"over": episode})
        except ToolFault as fault:
            self._fail(episode, str(fault), self._logged(order, fault))
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            reason = describe_error(error, self._environment.file)
            self._fail(episode, reason, self._logged(order, error), is_refused=_is_refused(error))
        finally:
            if (reply := self._waiting(episode)) is not None:
                reply.cancel()  # a task that the environment has left waits for it
            del self._policies[episode], self._episodes[episode]

    def _fail(self, episode: int, reason: str, traceback: str, *, is_refused: bool = False) -> None:
        fault = {"reason": reason, "traceback": traceback, "threads": num_left(), "is_refused": is_refused}
        self.send({"fault": episode, **fault})

    def _logged(self, order: dict[str, Any], error: BaseException) -> str:
        """Print the traceback of an episode, and return it."""
        traceback = traceback_of(error)
        print(f"task {order['task']['id']}:\n{traceback}", file=sys.stderr, flush=True)
        return traceback


def _is_refused(error: BaseException) -> bool:
    """Whether an error, or one behind it, is that of an HTTP client for a request that was refused."""
    behind: list[BaseException | None] = [error]
    seen: set[int] = set()
    while behind:
        each = behind.pop()
        if each is None or id(each) in seen or isinstance(each, SystemExit):
            continue
        seen.add(id(each))
        # OpenAI's client, aiohttp and urllib; httpx and requests keep it with the response.
        found = [getattr(each, name, None) for name in ("status_code", "status", "code")]
        if REFUSED in (*found, getattr(getattr(each, "response", None), "status_code", None)):
            return True
        behind += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            behind += each.exceptions
    return False


def _task(fields: dict[str, Any]) -> Task:
    return Task(**{**fields, "messages": tuple(fields["messages"]), "split": Split(fields["split"])})


async def _serve(connection: socket.socket) -> None:
    start = json.loads(await asyncio.to_thread(_first_line, connection))
    environment = _loaded(start)
    loop, started = asyncio.get_running_loop(), StartedTasks()
    loop.set_task_factory(started.create)
    # A blocking tool of each open episode has a thread of its own.
    loop.set_default_executor(ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="environment"))
    connection.setblocking(False)
    _, link = await loop.create_connection(lambda: Link(environment, start["options"], started), sock=connection)
    link.send({"loaded": environment.sha256})
    await asyncio.Event().wait()


def _loaded(start: dict[str, Any]) -> LoadedEnvironment:
    """Import what the first line names: an environment, or the tools of one."""
    if start["tools"]:
        # Their settings need pydantic, which takes a third of the start of this process.
        from rft.config.tools import ToolConfig
        from rft.episodes.tools.loading import load_tools

        entries = {name: ToolConfig(**entry) for name, entry in start["tools"].items()}
        limits = {name: start[name] for name in ("max_invalid_calls", "timeout_s")}
        return load_tools(entries, offered=start["offered"], fingerprints=start["fingerprints"], **limits)
    return load_environment(start["use"], start["options"], start["style"])


def _first_line(connection: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        if not (byte := connection.recv(1)):
            os._exit(0)
        line += byte
    return line


def main() -> None:
    """Serve until the socket closes."""
    with suppress(AttributeError, OSError):  # Linux alone; elsewhere the process ends with its socket
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    asyncio.run(_serve(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
