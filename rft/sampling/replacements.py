"""The replacements of a run's lost samplers, while they start and join."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from rft.errors import RftError, SamplersLost
from rft.sampling.engines import SamplerHandle
from rft.waiting import waiting


class Replacements:
    """One task for each lost sampler, which ends when a new sampler has joined in its place, or cannot join.

    Args:
        replace: Lets a new sampler join in the place of a lost one. Receives the reason of the loss, too.
        on_end: Called after the end of each task.
    """

    def __init__(
        self, replace: Callable[[SamplerHandle, str], Coroutine[Any, Any, None]], *, on_end: Callable[[], None]
    ) -> None:
        self.failures: list[RftError] = []
        """The errors of replacements that could not join."""
        self._replace = replace
        self._on_end = on_end
        self._tasks: set[asyncio.Task[None]] = set()
        self._later: list[asyncio.Task[None]] = []
        self._renewing: set[asyncio.Task[None] | None] = set()
        self._changed = asyncio.Event()
        """Set when a replacement ends, or begins to wait for the learner, and by `allow`."""
        self._may_start = asyncio.Event()
        self._may_start.set()

    def __bool__(self) -> bool:
        """Whether any replacement is under way."""
        return bool(self._tasks)

    def start(self, lost: SamplerHandle, reason: str) -> None:
        """Begin to replace a lost sampler.

        Args:
            lost: The sampler.
            reason: Why it is lost.
        """
        task = asyncio.create_task(self._replace(lost, reason), name=f"replacement of {lost.name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def start_later(self, lost: SamplerHandle, reason: str, ready: Awaitable[None]) -> None:
        """Begin to replace a lost sampler when `ready` returns. Until then, no replacement is under way."""

        async def start() -> None:
            await ready
            self.start(lost, reason)

        self._later.append(asyncio.create_task(start(), name=f"place of {lost.name}"))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._changed.set()
        if task.cancelled():
            return
        if error := task.exception():
            self.failures.append(SamplersLost(f"{task.get_name()}: {type(error).__name__}: {error}"))
        self._on_end()

    @property
    def are_paused(self) -> bool:
        """Whether no replacement may start or join."""
        return not self._may_start.is_set()

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Wait until a condition is true, which is checked whenever replacements change."""
        while not is_true():
            self._changed.clear()
            await self._changed.wait()

    @contextmanager
    def renewing(self) -> Iterator[None]:
        """Mark the replacement of the current task as waiting for the learner during the block."""
        task = asyncio.current_task()
        self._renewing.add(task)
        self._changed.set()
        try:
            yield
        finally:
            self._renewing.discard(task)

    async def until_allowed(self) -> None:
        """Wait while starts are paused."""
        await self._may_start.wait()

    def allow(self) -> None:
        """Let replacements start and join again."""
        self._may_start.set()
        self._changed.set()

    async def pause(self) -> None:
        """Wait for the replacements under way; later ones wait for `allow`."""
        if self.are_paused:
            return
        # The others wait for the learner, which may wait for this.
        if starting := self._tasks - self._renewing:
            with waiting(f"{len(starting)} sampler(s) to be replaced"):
                await self.until(lambda: not self._tasks - self._renewing)
        self._may_start.clear()

    async def cancel(self) -> None:
        """Cancel all replacements."""
        tasks = [*self._later, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
