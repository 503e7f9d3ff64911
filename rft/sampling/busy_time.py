"""Measures the share of a time span during which samplers have requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable


class BusyTime:
    """Seconds with requests, by sampler. The span begins with the object, and ends with `stop`.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_s = clock()
        self._ended_s: float | None = None
        self._num_open: dict[Hashable, int] = {}
        self._since_s: dict[Hashable, float] = {}
        self._busy_s = 0.0
        self._num_samplers = 0

    def available(self, num_samplers: int) -> None:
        """Note the number of samplers that could work; the largest one counts."""
        self._num_samplers = max(self._num_samplers, num_samplers)

    def begin(self, sampler: Hashable, num_requests: int) -> None:
        """Note requests that a sampler received."""
        if not self._num_open.get(sampler):
            self._since_s[sampler] = self._clock()
        self._num_open[sampler] = self._num_open.get(sampler, 0) + num_requests

    def end(self, sampler: Hashable) -> None:
        """Note the end of one request; without effect after `end_all`."""
        if (left := self._num_open.get(sampler, 0)) > 1:
            self._num_open[sampler] = left - 1
        else:
            self.end_all(sampler)

    def end_all(self, sampler: Hashable) -> None:
        """Note the end of all requests of a sampler, or its loss."""
        self._num_open.pop(sampler, None)
        if (since_s := self._since_s.pop(sampler, None)) is not None:
            self._busy_s += self._clock() - since_s

    def stop(self) -> None:
        """End the span."""
        for sampler in list(self._since_s):
            self.end_all(sampler)
        if self._ended_s is None:
            self._ended_s = self._clock()

    @property
    def busy_s(self) -> float:
        """Seconds with requests, summed over the samplers."""
        return self._busy_s

    @property
    def available_s(self) -> float:
        """Length of the span until `stop`, times the number of samplers."""
        ended_s = self._clock() if self._ended_s is None else self._ended_s
        return self._num_samplers * (ended_s - self._began_s)
