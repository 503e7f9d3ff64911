"""Passes the events of a run to its sinks, and protects the run from failures of optional sinks."""

from __future__ import annotations

import asyncio
import inspect
import queue
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from rft.errors import WaitTimeout
from rft.events import Event, Sink, Warned
from rft.grading.normalise import describe_error
from rft.redaction import hide
from rft.waiting import in_thread, wait_for

CLOSE_S = 60.0
"""Seconds that an optional sink has at the end of a run to handle its remaining events."""
MAX_WAITING_EVENTS = 500
"""Number of unhandled events at which an optional sink counts as failed."""


class Emitter:
    """Passes each event to every sink. Only one thread may emit.

    Args:
        required: Sinks that handle each event before the run continues. Their errors end the run: a run folder on a
            full disk, for example.
        optional: Sinks by name, each called in its own thread. A sink that raises does not end the run; it receives no
            more events, and one warning reports it.
        secrets: Texts to hide in the texts of events.
        close_s: Seconds that an optional sink has for its remaining events.
    """

    def __init__(
        self,
        required: Sequence[Sink],
        optional: Mapping[str, Sink] | None = None,
        *,
        secrets: Sequence[str] = (),
        close_s: float = CLOSE_S,
    ) -> None:
        self._required = required
        self._optional = [_OptionalSink(name, sink) for name, sink in (optional or {}).items()]
        self._secrets = secrets
        self._close_s = close_s

    def emit(self, event: Event) -> None:
        """Pass an event to every sink."""
        texts = {field.name: getattr(event, field.name) for field in fields(event)}
        hidden: dict[str, Any] = {
            name: hide(text, self._secrets) for name, text in texts.items() if isinstance(text, str)
        }
        event = replace(event, **hidden)
        for sink in self._required:
            sink.event(event)
        for optional in self._optional:
            optional.put(event)
        self._warn_of_failures()

    def warn(self, text: str) -> None:
        """Emit a warning."""
        self.emit(Warned(text=text))

    def failures(self) -> dict[str, dict[str, str | int]]:
        """Return `error` and `missed_events`, the number of events since the error, for each failed sink by name."""
        failed = (sink for sink in self._optional if sink.error)
        return {sink.name: {"error": sink.error, "missed_events": sink.missed_events} for sink in failed}

    async def close_optional(self) -> None:
        """Wait until the optional sinks have handled all events and closed."""
        for sink in self._optional:
            sink.put(None)
        await asyncio.gather(*(self._wait_for(sink) for sink in self._optional))
        self._warn_of_failures()

    def close(self) -> None:
        """Close the required sinks."""
        for sink in self._required:
            sink.close()

    async def _wait_for(self, sink: _OptionalSink) -> None:
        try:
            await wait_for(asyncio.wrap_future(sink.ended), what=f"sink {sink.name} to close", deadline_s=self._close_s)
        except WaitTimeout as error:
            sink.error = sink.error or str(error)

    def _warn_of_failures(self) -> None:
        for sink in self._optional:
            if sink.error and not sink.is_reported:
                sink.is_reported = True
                self.warn(f"sink {sink.name} failed and receives no more events: {sink.error}")


class _OptionalSink:
    """A sink in its own thread.

    Args:
        name: Name of the sink, for messages.
        sink: The sink. Only the thread calls it.
    """

    def __init__(self, name: str, sink: Sink) -> None:
        self.name = name
        self.error = ""
        self.is_reported = False
        self.missed_events = 0
        self._sink = sink
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self.ended = in_thread(self._work, name=f"sink {name}")

    def put(self, event: Event | None) -> None:
        """Pass an event to the thread; None ends it."""
        if self._events.qsize() >= MAX_WAITING_EVENTS and not self.error:  # they hold rollouts, so memory would grow
            self.error = f"it is {MAX_WAITING_EVENTS} events behind"
        self._events.put(event)

    def _work(self) -> None:
        """Runs in the thread until None arrives."""
        while (event := self._events.get()) is not None:
            if self.error:
                self.missed_events += 1
                continue
            try:
                self._sink.event(event)
            except BaseException as error:  # in a thread of its own, nothing else would receive it
                self._fail(error)
                self.missed_events += 1
        try:
            self._sink.close()
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, SystemExit):
            self.error = self.error or f"it called sys.exit({error.code!r})"
        else:
            self.error = self.error or describe_error(error, inspect.getsourcefile(type(self._sink)) or "")
