"""Updates the copy of a run in the background: a sink that starts a copy and does not wait for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

from rft.errors import StorageError, WaitTimeout
from rft.events import CheckpointSaved, Event
from rft.run_folder.copies.copying import Copier
from rft.storage import Place
from rft.terminal.interrupt import Interrupt
from rft.waiting import in_thread, waiting

PAUSES_S = (1.0, 5.0, 20.0)
"""Seconds before each further attempt of a failed copy."""


class Store:
    """Makes copies in the background, one after another, within one event loop.

    Args:
        copier: Makes a copy.
        timeout_s: Seconds for a copy with all its attempts.
        warn: Receives failures during the run.
        pauses_s: Seconds between the attempts.
    """

    def __init__(
        self, copier: Copier, *, timeout_s: float, warn: Callable[[str], None], pauses_s: Sequence[float] = PAUSES_S
    ) -> None:
        self._copier = copier
        self._timeout_s = timeout_s
        self._warn = warn
        self._pauses_s = pauses_s
        self._requested_step: int | None = None
        self._task: asyncio.Task[None] | None = None
        self.failed_copies = 0
        """Number of copies that failed at every attempt since the last `take_failed_copies`."""

    @property
    def place(self) -> Place:
        """Place of the copy."""
        return self._copier.place

    def take_failed_copies(self) -> int:
        """Return and reset the number of failed copies."""
        failed, self.failed_copies = self.failed_copies, 0
        return failed

    def metrics(self) -> dict[str, float]:
        """Return metrics of a step: `storage/failed_copies`, counted since the previous step."""
        return {"storage/failed_copies": float(self.take_failed_copies())}

    def event(self, event: Event) -> None:
        """Request a copy of each checkpoint. The line of its step is already written."""
        match event:
            case CheckpointSaved():
                self.ask(event.step)

    def close(self) -> None:
        """Do nothing, since `finish` makes the last copy."""

    def ask(self, last_step: int) -> None:
        """Request a copy, which starts when the current copy has ended.

        Args:
            last_step: The last step in metrics.jsonl.
        """
        self._requested_step = last_step
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name="copies to storage")

    async def finish(self, last_step: int) -> str | None:
        """Make the last copy; Ctrl-C stops it.

        Returns:
            The reason why the copy is incomplete, or None.
        """
        self._requested_step = None
        try:
            with (
                waiting(f"the copy of the run to {self.place}", deadline_s=2 * self._timeout_s),
                Interrupt(self._warn) as interrupt,
            ):
                if self._task is not None:
                    await self._task
                await self._counted(last_step)
        except (StorageError, WaitTimeout) as error:
            return str(error)
        except asyncio.CancelledError:
            if not interrupt.requested:
                raise
            return "it was stopped"
        return None

    async def _work(self) -> None:
        while (last_step := self._requested_step) is not None:
            self._requested_step = None
            try:
                await self._counted(last_step)
            except (StorageError, WaitTimeout) as error:
                self._warn(f"step {last_step} is not in storage: {error}; the run continues, and the next copy retries")

    async def _counted(self, last_step: int) -> None:
        try:
            await self._copy(last_step)
        except (StorageError, WaitTimeout):
            self.failed_copies += 1
            raise

    async def _copy(self, last_step: int) -> None:
        """Copy repeatedly until a copy succeeds or the deadline passes."""
        what = f"the copy of the run to {self.place}"
        given_up = threading.Event()
        failure: StorageError | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                for pause_s in (0.0, *self._pauses_s):
                    await asyncio.sleep(pause_s)
                    try:
                        call = in_thread(lambda: self._copier.copy(last_step, given_up), name=what)
                        await asyncio.wrap_future(call)
                        return
                    except StorageError as error:
                        failure = error
        except TimeoutError:
            raise failure or WaitTimeout(what, self._timeout_s) from None
        finally:
            given_up.set()
        if failure is not None:
            raise failure
