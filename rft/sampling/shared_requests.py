"""Samples equal requests of several runs to the base model only once.

The trials of a sweep measure the same base model on the same tasks, and with equal seeds their first batches are equal,
too. A completion depends only on its request and the policy, so one completion serves all runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from rft.sampling.engine import Request, SamplingOptions
from rft.types import Rollout

KEPT_TOKENS = 500_000
"""Maximum tokens, including prompts, of the newest completions that are kept for later runs."""

_Key: TypeAlias = tuple[Request, SamplingOptions]
_Place: TypeAlias = tuple[int, str, int]
"""Stream, task id and index, which identify a request in the engine."""


class SharedRequests:
    """The streams that wait for completions of the base model, and the sampled completions."""

    def __init__(self) -> None:
        self._key_of: dict[_Place, _Key] = {}
        self._sampled_in: dict[_Key, int] = {}
        self._waiting: dict[_Key, list[int]] = {}
        self._kept: dict[_Key, Rollout] = {}
        self._num_kept_tokens = 0

    def ask(
        self, stream: int, requests: Sequence[Request], options: SamplingOptions
    ) -> tuple[Sequence[Request], list[Rollout]]:
        """Split a stream's requests into those to sample and those already sampled."""
        to_sample, there = [], []
        for request in requests:
            key = (request, options)
            if (rollout := self._kept.get(key)) is not None:
                there.append(rollout)
                continue
            if key not in self._waiting:
                self._waiting[key] = []
                self._sampled_in[key] = stream
                self._key_of[stream, request.task_id, request.index] = key
                to_sample.append(request)
            self._waiting[key].append(stream)
        return to_sample, there

    def end(self, stream: int, rollout: Rollout) -> list[int]:
        """Return the streams that wait for a completion."""
        key = self._key_of.pop((stream, rollout.task_id, rollout.index), None)
        if key is None:
            return [stream]
        self._keep(key, rollout)
        del self._sampled_in[key]
        return self._waiting.pop(key)

    def _keep(self, key: _Key, rollout: Rollout) -> None:
        self._kept[key] = rollout
        self._num_kept_tokens += _num_tokens(rollout)
        while self._num_kept_tokens > KEPT_TOKENS:
            oldest = next(iter(self._kept))
            self._num_kept_tokens -= _num_tokens(self._kept.pop(oldest))

    def leave(self, stream: int) -> set[int]:
        """Remove a waiting stream. Return streams whose requests no longer have a waiter, possibly including itself."""
        for streams in self._waiting.values():
            if stream in streams:
                streams.remove(stream)
        needed = {self._sampled_in[key] for key, streams in self._waiting.items() if streams}
        idle = {stream, *self._sampled_in.values()} - needed
        for place, key in list(self._key_of.items()):
            if place[0] in idle:
                del self._key_of[place], self._sampled_in[key], self._waiting[key]
        return idle


def _num_tokens(rollout: Rollout) -> int:
    return len(rollout.prompt_ids) + len(rollout.completion_ids)
