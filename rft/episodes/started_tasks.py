"""Tells which episode started an asyncio task, to count the tasks that outlive their episode."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Generator
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

EPISODE: ContextVar[int | None] = ContextVar("number of the episode", default=None)
"""The episode under way. A task inherits it from the code that creates it."""


class StartedTasks:
    """The tasks that episodes start. `create` is a task factory of an event loop."""

    def __init__(self) -> None:
        self._episodes: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()

    def create(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        **options: Any,
    ) -> asyncio.Task[Any]:
        """Create a task, and keep the episode that started it."""
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
        episode = EPISODE.get(None)
        if episode is not None:
            self._episodes[task] = episode
        return task

    def left(self, under_way: Collection[int]) -> int:
        """Return the number of tasks that run although their episode is not under way."""
        return sum(not task.done() and episode not in under_way for task, episode in self._episodes.items())
