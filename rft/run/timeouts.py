"""Writes the stacks of a run's processes into its folder when a wait times out."""

from __future__ import annotations

import asyncio
import faulthandler
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from rft.cluster.stack_traces import actor_stacks
from rft.errors import RftError
from rft.reliability.durable import writing
from rft.waiting import Wait, current_waits

STACKS = "stacks"
"""Folder of the run folder with one folder for each timeout."""
MAX_TIMEOUTS = 10
"""Number of timeouts whose stacks are kept; the oldest are removed."""


class StackWriter:
    """Observes the timeouts of a run.

    Args:
        folder: The run folder.
        tell: Receives the place of the stacks, and the processes without an answer.
        hide: Hides secrets in the names of waits.
        actors: Returns the stacks of the actors by process.
    """

    def __init__(
        self,
        folder: Path,
        tell: Callable[[str], None],
        hide: Callable[[str], str] = str,
        actors: Callable[[], Awaitable[Mapping[str, str]]] = actor_stacks,
    ) -> None:
        self._folder = folder / STACKS
        self._tell = tell
        self._hide = hide
        self._actors = actors

    async def write(self, wait: Wait) -> None:
        """Write `stacks/<time>/<process>.txt` for the driver and each actor."""
        tasks = _tasks()
        name = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%f")
        try:
            stacks = await self._actors()
            self._write(self._folder / name, wait, tasks, stacks)
        except (RftError, OSError) as error:  # OSError: a log of Ray is gone, for example
            self._tell(f"the stacks at the timeout of {wait.what} are lost: {error}")
            return
        silent = [process for process, text in stacks.items() if text.startswith("no answer")]
        missing = f"; without an answer: {', '.join(silent)}" if silent else ""
        self._tell(f"timeout of {wait.what}: the stacks of all processes are in {self._folder / name}{missing}")

    def _write(self, folder: Path, wait: Wait, tasks: str, stacks: Mapping[str, str]) -> None:
        with writing(folder):
            self._folder.mkdir(exist_ok=True)  # a run folder that was deleted is not created again
            folder.mkdir()
            for process, text in stacks.items():
                (folder / f"{process}.txt").write_text(text, encoding="utf-8")
            now = time.monotonic()
            waits = [f"timeout: {wait.text(now)}", *(one.text(now) for one in current_waits())]
            with (folder / "driver.txt").open("w", encoding="utf-8") as file:
                print(*map(self._hide, waits), sep="\n", file=file)
                print(f"\n{tasks}\nThreads:\n", file=file, flush=True)
                faulthandler.dump_traceback(file, all_threads=True)
            for old in sorted(self._folder.iterdir())[:-MAX_TIMEOUTS]:
                shutil.rmtree(old)


def _tasks() -> str:
    """Return the stack of each task of this event loop, the oldest call first."""
    lines = []
    for task in asyncio.all_tasks():
        lines += [f"Task {task.get_name()}:", *_calls(task.get_coro()), ""]
    return "\n".join(lines)


def _calls(coroutine: Any) -> list[str]:
    """Return a line for each call in a chain of awaits."""
    lines = []
    while (frame := _frame_of(coroutine)) is not None:
        lines.append(f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}')
        coroutine = next(filter(None, (getattr(coroutine, name, None) for name in AWAITED)), None)
    return lines


AWAITED = ("cr_await", "ag_await", "gi_yieldfrom")
"""Attributes of coroutines and generators that hold the awaited object."""


def _frame_of(coroutine: Any) -> FrameType | None:
    names = ("cr_frame", "ag_frame", "gi_frame")
    return next(filter(None, (getattr(coroutine, name, None) for name in names)), None)
