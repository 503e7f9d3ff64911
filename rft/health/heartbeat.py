"""Writes heartbeat.json: what a run does right now, replaced every few seconds by a thread of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rft.events import (
    Event,
    PhaseStarted,
    RunEnded,
    RunStarted,
    SamplerLost,
    SamplerReplaced,
    StepFinished,
    StepTrained,
    Warned,
)
from rft.health.process import start_of
from rft.waiting import current_waits, in_thread

HEARTBEAT = "heartbeat.json"
BEAT_S = 5.0
"""Seconds between two heartbeats."""
MAX_WARNINGS = 5
MAX_WAITS = 5
RECENT_STEPS = 20
"""Number of steps over which the seconds per step are averaged."""
OPEN_MAX = "environment/open_max/"
"""Prefix of a step's metrics that count the most open episodes of a node."""
RECOVERY = "recovery/"
"""Prefix of a step's metrics that count restarts and repeated work."""


class Heartbeat:
    """A sink that keeps heartbeat.json up to date.

    The thread writes even while the event loop is blocked. A heartbeat that cannot be written is counted, and the next
    one tells the number.

    Args:
        folder: The run folder.
        hide: Hides secrets in a text.
        clock: Monotonic clock, in seconds.
        beat_s: Seconds between two heartbeats.
    """

    def __init__(
        self,
        folder: Path,
        *,
        hide: Callable[[str], str] = str,
        clock: Callable[[], float] = time.monotonic,
        beat_s: float = BEAT_S,
    ) -> None:
        self._folder = folder
        self._hide = hide
        self._clock = clock
        self._beat_s = beat_s
        self._lock = threading.Lock()
        self._writing = threading.RLock()
        self._stopped = threading.Event()
        self._step_ends: deque[float] = deque(maxlen=RECENT_STEPS + 1)
        self._warnings: deque[dict[str, str]] = deque(maxlen=MAX_WARNINGS)
        self._metrics: dict[str, float] = {}
        self._recovery: dict[str, float] = {}
        self._lost: dict[str, str] = {}
        self._failed_writes = 0
        self._facts: dict[str, Any] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process_start_ticks": start_of(os.getpid()),
            "every_s": beat_s,
            "status": "running",
            "phase": "starting",
            "step": 0,
            "steps": None,
            "resume": None,
        }

    def event(self, event: Event) -> None:
        """Take over what an event says, and begin or end the heartbeats."""
        with self._lock:
            self._take(event)
        if isinstance(event, RunStarted):
            self.write()
            in_thread(self._beat, name="heartbeat")
        elif isinstance(event, RunEnded):
            self.close()

    def add(self, **facts: Any) -> None:
        """Add entries to every further heartbeat."""
        with self._lock:
            self._facts |= facts

    def close(self) -> None:
        """End the heartbeats with a last one."""
        if not self._stopped.is_set():
            self._stopped.set()
            self.write()

    def snapshot(self) -> dict[str, Any]:
        """Return the content of a heartbeat."""
        now = self._clock()
        waits = sorted(current_waits(), key=lambda wait: (-wait.quarters(now), wait.since))[:MAX_WAITS]
        with self._lock:
            ends = self._step_ends
            return {
                "written_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "written_at_uptime_s": now,  # a change of the clock does not affect it
                **self._facts,
                "step_s": (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else None,
                "waits": [
                    {"what": self._hide(wait.what), "waited_s": now - wait.since, "deadline_s": wait.deadline_s}
                    for wait in waits
                ],
                "recovery": dict(self._recovery),
                "open_episodes": {
                    name.removeprefix(OPEN_MAX): value
                    for name, value in self._metrics.items()
                    if name.startswith(OPEN_MAX)
                },
                "lost": dict(self._lost),
                "warnings": list(self._warnings),
                "disk_free_bytes": shutil.disk_usage(self._folder).free,
                "failed_writes": self._failed_writes,
            }

    def metrics(self) -> dict[str, float]:
        """Return the metrics of the last complete step."""
        with self._lock:
            return dict(self._metrics)

    def write(self) -> None:
        """Replace heartbeat.json."""
        file = self._folder / HEARTBEAT
        unfinished = file.with_name(f"{HEARTBEAT}.unfinished")
        with self._writing:
            try:
                unfinished.write_text(json.dumps(self.snapshot(), indent=2) + "\n", encoding="ascii")
                unfinished.replace(file)
            except OSError:  # the disk is full, for example; the recorder reports it
                self._failed_writes += 1

    def _beat(self) -> None:
        while not self._stopped.wait(self._beat_s):
            with self._writing:
                if not self._stopped.is_set():  # the last heartbeat stays
                    self.write()

    def _take(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._facts |= {"name": event.name, "step": event.last_step, "steps": event.steps}
            case PhaseStarted():
                self._facts["phase"] = event.text
            case Warned():
                time_text = datetime.now(UTC).isoformat(timespec="seconds")
                self._warnings.append({"time": time_text, "text": event.text})
            case SamplerLost():
                self._lost[_place(event.sampler)] = event.reason
            case SamplerReplaced():  # perhaps on another node
                self._lost.pop(_place(event.sampler), None)
            case StepTrained():
                self._facts["phase"] = "training"
            case StepFinished():
                self._facts["step"] = event.report.step
                self._step_ends.append(self._clock())
                self._metrics = dict(event.report.metrics)
                for name, value in event.report.metrics.items():
                    if name.startswith(RECOVERY):
                        key = name.removeprefix(RECOVERY)
                        self._recovery[key] = self._recovery.get(key, 0.0) + value
            case RunEnded():
                self._facts |= {"status": event.status, "step": event.last_step, "resume": event.resume}


def _place(sampler: str) -> str:
    """Return the name of a sampler without its node."""
    return sampler.partition(" on node ")[0]
