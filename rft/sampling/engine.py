"""The protocol of sampling engines, and its records."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from rft.errors import SyncError
from rft.types import Adapter, FullWeights, Logprobs, Policy, Rollout, TopTokens

PROMPT_TOKENS_STEP = 64
"""Prompts of unknown length are padded to a multiple of this number of tokens."""
ANY_RUN = -1
"""The run of the base model, which all runs share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One completion to sample.

    Example:
        Request(task_id="3f1c...", index=0, prompt_ids=(5, 9), seed=17)
    """

    task_id: str
    """`Task.id` of the task to sample."""
    index: int
    """Position in its group, from 0."""
    prompt_ids: tuple[int, ...]
    """`[P]` token ids of the rendered prompt."""
    seed: int
    """Seed of this completion, which makes it independent of its neighbours and of the sampling actor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchShape:
    """Upper bounds of a sample call, from which an engine can choose the shape of its batches.

    Log-probabilities are rounded differently in batches of different shapes. The bounds depend neither on the number of
    samplers that are alive nor on the requests that arrived first, so neither does a completion.

    Example:
        BatchShape(num_completions=32, num_prompt_tokens=41)
    """

    num_completions: int
    """Completions of one sampler, if all samplers take part."""
    num_prompt_tokens: int | None
    """Tokens of the longest prompt; None if it is not known, so each prompt is padded to a multiple of
    `PROMPT_TOKENS_STEP`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOptions:
    """Sampling options. Sampling uses the whole distribution (no top-p, no top-k), so that log-probabilities of sampler
    and learner agree.
    """

    temperature: float
    """Sampling temperature; 0 selects the most likely token."""
    max_completion_tokens: int
    """Maximum length of a completion."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion, in addition to the model's end tokens; the text ends before them."""
    shape: BatchShape | None = field(default=None, compare=False)
    """The bounds of the call that sends the requests; None leaves the shape of batches to the requests at hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The result of reading loaded weights back from the engine.

    Example:
        Loaded(policy=Policy(version=3, fingerprint="9b2e..."), modules_matched=28, problems=())
    """

    policy: Policy
    """The requested version, with the fingerprint of the received bytes."""
    modules_matched: int
    """Number of modules of the model whose weights match."""
    problems: tuple[str, ...] = ()
    """Differences, one sentence each; empty if all weights match bit by bit."""
    is_remote: bool = False
    """Whether the weights are in another program, which cannot be read back; only the canaries can prove them."""


@dataclass(frozen=True, slots=True)
class TopRequest:
    """What to return of the most probable tokens of N sequences.

    Example:
        TopRequest(k=16, starts=(41, 41))
    """

    k: int
    """Tokens at each position; at most the whole vocabulary."""
    starts: tuple[int, ...]
    """`[N]` position of the first token to compare with the most probable ones, at least 1."""


Tops = tuple[Logprobs, tuple[TopTokens, ...]]
"""The scores of N sequences, and their `[N]` most probable tokens from the requested positions to the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The newest policy's scores of N sequences of L tokens, at temperature 1.

    Example:
        Scores(logprobs=((-0.1, -2.3), (-0.2, -0.7)), last=(-2.3,), reused_tokens=0)
    """

    logprobs: Logprobs
    """`[N][L - 1]` log-probabilities of every token except the first, computed without the prefix cache."""
    last: tuple[float, ...]
    """`[1]` log-probability of the first sequence's last token, computed through the prefix cache, as in sampling.

    Empty without sequences. One is enough, because a cache that is reused for one prompt is reused for all.
    """
    reused_tokens: int | None
    """Number of tokens from the prefix cache; None if the engine does not report it. The first request under a new
    policy must find none."""


class Engine(Protocol):
    """One model that samples under several loaded policies. One thread calls all methods."""

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The loaded policies, the newest last."""

    def describe(self) -> dict[str, Any]:
        """Return facts about the engine for the manifest, as JSON values; empty if there are none."""

    @property
    def loads_in_place(self) -> bool:
        """Whether loading overwrites the previous policy, so that requests must finish first."""

    @property
    def has_unfinished(self) -> bool:
        """Whether `step` has work."""

    def load(self, weights: Adapter | FullWeights, run: int = 0) -> Loaded:
        """Load this policy as the newest of a run, and return the result of reading it back.

        Drops older policies of the run, except the last `staleness` and those with requests; keeps those of other runs.

        Raises:
            SyncError: The engine cannot serve these weights.
        """

    def sleep(self) -> None:
        """Free the memory of weights and caches until `wake`. No request may be unfinished.

        Raises:
            SampleError: The engine cannot sleep.
        """

    def wake(self) -> None:
        """Take the memory back, with the same weights and empty caches."""

    def forget(self, run: int) -> None:
        """Drop all policies of a run that has ended."""

    def add(
        self, stream: int, requests: Sequence[Request], options: SamplingOptions, policy: Policy, run: int = 0
    ) -> None:
        """Add requests of one stream. An engine that several runs share serves them in turn.

        Raises:
            SyncError: The engine does not have the policy for this run.
        """

    def step(self) -> list[tuple[int, Rollout]]:
        """Make one step; return finished completions with their streams."""

    def abort(self, stream: int) -> None:
        """Drop the unfinished requests of a stream."""

    def score(self, sequences: Sequence[Sequence[int]]) -> Scores:
        """Score sequences of token ids under the latest policy."""

    def logprobs(self, sequences: Sequence[Sequence[int]]) -> Logprobs:
        """Return the scores of `score` without the check of the prefix cache."""

    def top_logprobs(self, sequences: Sequence[Sequence[int]], request: TopRequest) -> Tops:
        """Return the scores of `logprobs`, and the most probable tokens at each position.

        Raises:
            SampleError: The engine does not know them.
        """


def arrived(weights: Adapter | FullWeights) -> Policy:
    """Return the received policy, with a fingerprint computed from the bytes instead of the declared one."""
    return Policy(version=weights.policy.version, fingerprint=hashlib.sha256(weights.tensors).hexdigest()[:16])


def not_held(policy: Policy, held: Sequence[Policy]) -> SyncError:
    """Return the error of a request for a policy that the engine does not have."""
    names = ", ".join(one.name for one in held) or "none"
    return SyncError(
        f"this sampler was asked for {policy.name} but holds {names}: it missed a sync, or restarted without one"
    )


def sample_all(engine: Engine, requests: Sequence[Request], options: SamplingOptions) -> list[Rollout]:
    """Sample requests to the end under the newest policy, with an unshared engine."""
    engine.add(0, requests, options, engine.policies[-1])
    rollouts = []
    while engine.has_unfinished:
        rollouts += [rollout for _, rollout in engine.step()]
    return rollouts


def request_seed(*parts: object) -> int:
    """Return a seed below 2**31 from the identity of a completion: (run seed, phase, step, task id, index)."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
