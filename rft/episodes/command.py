"""Plays episodes with a command: any program that speaks OpenAI's API, started once for each episode.

The program gets the task as one JSON object on its standard input, and finds the policy through the variables that
OpenAI's clients read. It runs in a process group of its own, which is killed at the end of the episode.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from rft.config.environment import EnvironmentConfig
from rft.episodes import end_with_driver
from rft.episodes.attempt import SHORTEST_WAIT_S, Ending
from rft.episodes.conversation import Conversation
from rft.episodes.endpoint.server import Endpoint
from rft.episodes.endpoint.session import Session
from rft.types import Score, Status, Task
from rft.waiting import wait_for, waiting

TAIL_BYTES = 4096
"""How much of the output of a failed command goes into its report."""
KILL_S = 30.0
"""Deadline of the end of a killed process."""


class CommandPlayer:
    """Plays each episode with a process of its own.

    Args:
        config: The environment, with a command.
        tokenizer: The policy's.
        lowest: Score of an episode that ends at a limit without a score.
        log: File for the output of the commands; None discards it.
    """

    def __init__(
        self, config: EnvironmentConfig, tokenizer: Any, *, lowest: float = 0.0, log: Path | None = None
    ) -> None:
        assert config.command is not None
        self._words = shlex.split(config.command)
        self._config = config
        self._tokenizer = tokenizer
        self._lowest = lowest
        self._log = log
        self._endpoint: Endpoint | None = None
        self.num_open = 0
        """Episodes under way."""

    async def play(self, task: Task, seed: int, begin: Callable[[], Conversation]) -> tuple[Ending, Conversation]:
        """Play one episode. Never raises an error of the command.

        Args:
            task: The task.
            seed: The seed of the environment.
            begin: Begins the episode on the policy's side.

        Returns:
            The end, and the policy's side of the episode.

        Raises:
            RftError: The policy could not be sampled.
        """
        self._endpoint = self._endpoint or Endpoint(self._tokenizer)
        self.num_open += 1
        conversation = begin()
        try:
            with tempfile.TemporaryFile() as output:
                try:
                    with self._endpoint.episode(conversation) as session:
                        exit_code = await self._run(task, seed, session, output)
                finally:
                    self._keep(output, task)
                return _ending(session, exit_code, _tail(output), self._lowest, self._config), conversation
        finally:
            self.num_open -= 1

    async def start(self) -> None:
        """Do nothing: each episode starts its command."""

    async def count_left(self) -> int:
        """Return 0: all processes of a command are killed at the end of its episode."""
        return 0

    async def _run(self, task: Task, seed: int, session: Session, output: IO[bytes]) -> int | None:
        """Run the command, and return its exit code; None if it used up its time."""
        with tempfile.TemporaryFile() as given:
            given.write(json.dumps(_given(task, seed)).encode() + b"\n")
            given.seek(0)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", end_with_driver.__file__, str(os.getpid()), *self._words),
                stdin=given,
                stdout=output,
                stderr=output,
                env={**os.environ, **_variables(session, seed)},
                start_new_session=True,
            )
        ended = asyncio.ensure_future(process.wait())
        try:
            return await self._ended(ended, session, f"the command of task {task.id}")
        finally:
            await asyncio.shield(self._end(process, ended))

    async def _ended(self, ended: asyncio.Future[int], session: Session, what: str) -> int | None:
        """Wait for the end of the command; the time in which it waits for the policy does not count."""
        began_s = time.monotonic()
        while not ended.done():
            left_s = self._config.timeout_s - (time.monotonic() - began_s - session.waited_s)
            if left_s <= 0:
                return None
            with waiting(what):  # the display cannot know for how long the policy speaks
                either: set[asyncio.Future[Any]] = {ended, session.failed}
                await asyncio.wait(
                    either,
                    timeout=max(left_s, SHORTEST_WAIT_S),
                    return_when=asyncio.FIRST_COMPLETED,
                )
            if session.failed.done():
                session.failed.result()  # raises
        return ended.result()

    async def _end(self, process: asyncio.subprocess.Process, ended: asyncio.Future[int]) -> None:
        """End the process group: first politely, if the command is still running."""
        if not ended.done():
            _signal(process.pid, signal.SIGTERM)
            deadline_s = self._config.close_timeout_s
            with waiting("a command to end (environment.close_timeout_s)", deadline_s=deadline_s):
                await asyncio.wait([ended], timeout=deadline_s)
        _signal(process.pid, signal.SIGKILL)
        await wait_for(ended, what="a killed command to end", deadline_s=KILL_S)

    def _keep(self, output: IO[bytes], task: Task) -> None:
        """Append the output of a command to the log."""
        if self._log is None:
            return
        output.seek(0)
        if said := output.read():
            with open(self._log, "ab") as log:
                log.write(f"task {task.id}:\n".encode() + said + (b"" if said.endswith(b"\n") else b"\n"))

    def metrics(self) -> dict[str, float]:
        """Return what became of the requests since the last call, `endpoint/...`."""
        return self._endpoint.metrics() if self._endpoint is not None else {}

    async def close(self) -> None:
        """End the endpoint."""
        if self._endpoint is not None:
            await self._endpoint.close()


def _given(task: Task, seed: int) -> dict[str, Any]:
    """Return what the command reads about its task."""
    return {
        "id": task.id,
        "messages": list(task.messages),
        "item": dict(task.item),
        "split": task.split,
        "seed": seed,
    }


def _variables(session: Session, seed: int) -> Mapping[str, str]:
    """Return the variables of a command. A proxy must not get requests to loopback."""
    direct = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), "127.0.0.1"]))
    return {
        "OPENAI_BASE_URL": session.base_url,
        "OPENAI_API_BASE": session.base_url,
        "OPENAI_API_KEY": session.api_key,
        "RFT_REWARD_URL": session.reward_url,
        "RFT_SEED": str(seed),
        "NO_PROXY": direct,
        "no_proxy": direct,
    }


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def _tail(output: IO[bytes]) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - TAIL_BYTES))
    return output.read().decode(errors="replace").strip()


def _ending(session: Session, exit_code: int | None, said: str, lowest: float, config: EnvironmentConfig) -> Ending:
    """Return the end of an episode, from what the command did."""
    if session.fork:
        return _fault(session.fork, said)
    if session.conversation.transcript is None and not session.limit:
        how = f"exit code {exit_code}" if exit_code is not None else f"no end within {config.timeout_s:g} s"
        reason = f"the command never called the policy at OPENAI_BASE_URL ({how})"
        return _fault(f"{reason}{_last_line(said)}", said)
    if session.posted is not None:
        if session.rewarded is None:
            return Ending(session.posted)
        session.reward(session.posted.value or 0.0)  # beside rewards by turn, it counts for the last turn
        return Ending(Score(value=session.rewarded))
    if exit_code is None:
        return _fault(f"no end within {config.timeout_s:g} s (environment.timeout_s){_last_line(said)}", said)
    if session.limit:
        reason = f"the episode reached a limit: {session.limit}"
        if session.rewarded is not None:
            return Ending(Score(value=session.rewarded, reason=reason))
        return Ending(Score(value=lowest, status=Status.NO_ANSWER, reason=reason), is_over=True)
    if exit_code:
        return _fault(f"the command ended with exit code {exit_code}{_last_line(said)}", said)
    if session.rewarded is not None:
        return Ending(Score(value=session.rewarded))
    return Ending(Score(value=None, status=Status.SKIPPED, reason="the command posted no reward"))


def _fault(reason: str, said: str) -> Ending:
    return Ending(Score(value=None, status=Status.ENVIRONMENT_ERROR, reason=reason), traceback=said)


def _last_line(said: str) -> str:
    return f": {said.splitlines()[-1]}" if said else ""
