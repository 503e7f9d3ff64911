"""A fake engine, which draws completions from a script, without a model."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Sequence
from typing import Any

from rft.config.samplers.fake import FakeSamplerConfig
from rft.models.base_model import load_tokenizer
from rft.sampling.engine import ANY_RUN, Loaded, Request, SamplingOptions, Scores, TopRequest, Tops, arrived, not_held
from rft.sampling.spec import EngineSpec
from rft.types import Adapter, FullWeights, Logprobs, Policy, Rollout, StopReason, TopTokens

LONGEST_SLEEP_S = 0.05
"""At a slow pace, seconds after which a step ends without a completion, so that others get their turn."""


class FakeEngine:
    """Completion number `seed % len(script)` for every request; its token ids are the text's bytes, or the model's.

    It has no weights; `fake_score` gives its scores. At a pace of P completions per second, the k-th completion since
    the last idle time ends after k / P seconds; the engine catches up after a delay.

    Args:
        spec: Spec of the engine; its sampler is a `FakeSamplerConfig`.
    """

    def __init__(self, spec: EngineSpec) -> None:
        sampler = spec.sampler
        assert isinstance(sampler, FakeSamplerConfig)
        self._script = sampler.script
        self._tokenizer = load_tokenizer(spec.place.model, None) if sampler.tokens == "model" else None
        self._interval_s = 1 / sampler.completions_per_s if sampler.completions_per_s else 0.0
        self._due_s = 0.0
        self._staleness = spec.staleness
        self._is_shared = spec.num_runs > 1
        self._base = spec.base
        self._held: list[tuple[int, Policy]] = [(ANY_RUN, spec.base)]
        self._waiting: list[tuple[int, int, Rollout]] = []

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The pretended policies, the newest last."""
        return tuple(policy for _, policy in self._held)

    def describe(self) -> dict[str, Any]:
        """Return no facts."""
        return {}

    @property
    def loads_in_place(self) -> bool:
        """False: it keeps several policies."""
        return False

    @property
    def has_unfinished(self) -> bool:
        """Whether completions are waiting."""
        return bool(self._waiting)

    def load(self, weights: Adapter | FullWeights, run: int = 0) -> Loaded:
        """Pretend to load this policy as the newest. Drop older ones, except those with requests and the last few."""
        in_use = {rollout.policy for _, _, rollout in self._waiting}
        own = [held for held in self._held if held[0] in (run, ANY_RUN)]
        for held in own[: len(own) - self._staleness]:
            if held[1] not in in_use and not (self._is_shared and held[0] == ANY_RUN):
                self._held.remove(held)
        self._held.append((run, weights.policy))
        return Loaded(policy=arrived(weights), modules_matched=1)

    def sleep(self) -> None:
        """Do nothing."""

    def wake(self) -> None:
        """Do nothing."""

    def forget(self, run: int) -> None:
        """Drop all policies of a run."""
        self._held = [held for held in self._held if held[0] != run]

    def add(
        self, stream: int, requests: Sequence[Request], options: SamplingOptions, policy: Policy, run: int = 0
    ) -> None:
        """Draw all completions at once. Runs that share the engine receive theirs in turn, as with vLLM.

        Raises:
            SyncError: The engine does not have the policy.
        """
        if not {(run, policy), (ANY_RUN, policy)} & set(self._held):
            raise not_held(policy, self.policies)
        if not self._waiting:
            self._due_s = time.monotonic() + self._interval_s
        self._waiting += [
            (place if self._is_shared else 0, stream, self._completion(request, options, policy))
            for place, request in enumerate(requests)
        ]
        self._waiting.sort(key=lambda waiting: waiting[0])  # ties: the first one

    def step(self) -> list[tuple[int, Rollout]]:
        """Return one completion, in the order of requests; with a pace, all that are due."""
        if not self._interval_s:
            return [self._waiting.pop(0)[1:]] if self._waiting else []
        if self._waiting:
            time.sleep(min(max(self._due_s - time.monotonic(), 0.0), LONGEST_SLEEP_S))
        ended = []
        while self._waiting and self._due_s <= time.monotonic():
            ended.append(self._waiting.pop(0)[1:])
            self._due_s += self._interval_s
        return ended

    def abort(self, stream: int) -> None:
        """Drop waiting completions of a stream."""
        self._waiting = [waiting for waiting in self._waiting if waiting[1] != stream]

    def score(self, sequences: Sequence[Sequence[int]]) -> Scores:
        """Return the scores of `fake_score` under the newest policy."""
        logprobs = self.logprobs(sequences)
        return Scores(logprobs=logprobs, last=tuple(row[-1] for row in logprobs[:1]), reused_tokens=0)

    def logprobs(self, sequences: Sequence[Sequence[int]]) -> Logprobs:
        """Return `fake_score` of the newest policy for every token."""
        value = fake_score(self._held[-1][1])
        return tuple((value,) * (len(ids) - 1) for ids in sequences)

    def top_logprobs(self, sequences: Sequence[Sequence[int]], request: TopRequest) -> Tops:
        """Return the scores of `logprobs`, and at each position the tokens 0 to k - 1, equally probable."""
        lengths = [len(ids) - start for ids, start in zip(sequences, request.starts, strict=True)]
        each = array("i", range(request.k)), array("f", [-math.log(request.k)] * request.k)
        tops = (TopTokens(request.k, each[0] * length, each[1] * length) for length in lengths)
        return self.logprobs(sequences), tuple(tops)

    def _completion(self, request: Request, options: SamplingOptions, policy: Policy) -> Rollout:
        text = self._script[request.seed % len(self._script)]
        whole = text.encode() if self._tokenizer is None else self._tokenizer.encode(text, add_special_tokens=False)
        ids = tuple(whole[: options.max_completion_tokens])
        return Rollout(
            task_id=request.task_id,
            index=request.index,
            prompt_ids=request.prompt_ids,
            completion_ids=ids,
            logprobs=(-1.0,) * len(ids),
            text=self._decoded(ids),
            stop=StopReason.STOP if len(ids) == len(whole) else StopReason.LENGTH,
            policy=policy,
        )

    def _decoded(self, ids: Sequence[int]) -> str:
        if self._tokenizer is None:
            return bytes(ids).decode(errors="replace")
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))


def fake_score(policy: Policy) -> float:
    """Return a fake policy's log-probability of every token: -1 - version."""
    return -1.0 - policy.version
