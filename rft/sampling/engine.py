"""What every sampling engine does, whichever library stands behind it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rft.errors import SyncError
from rft.types import Adapter, FullWeights, Logprobs, Policy, Rollout

ANY_RUN = -1
"""Whose the base model is: every run's."""


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
    """Seed of this completion alone, so that it does not depend on its neighbours or on the actor that samples it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOptions:
    """How completions are sampled. The whole distribution is kept (no top-p, no top-k), so log-probabilities agree
    between the sampler and the learner.
    """

    temperature: float
    """Of the softmax; 0 takes the likeliest token."""
    max_completion_tokens: int
    """A completion is cut here."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion, beside the model's end tokens; its text ends before them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What an engine found when it read back what it had just loaded.

    Example:
        Loaded(policy=Policy(version=3, fingerprint="9b2e..."), modules_matched=28, problems=())
    """

    policy: Policy
    """The version that was asked for, with the fingerprint of the bytes that arrived."""
    modules_matched: int
    """Modules of the model that the weights were found in."""
    problems: tuple[str, ...] = ()
    """What is wrong with it, one sentence each; empty when everything was found again, bit by bit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What the newest policy says to N sequences of L tokens, at temperature 1.

    Example:
        Scores(logprobs=((-0.1, -2.3), (-0.2, -0.7)), last=(-2.3,), reused_tokens=0)
    """

    logprobs: Logprobs
    """`[N][L - 1]` of every token but the first, computed without the prefix cache."""
    last: tuple[float, ...]
    """`[1]` of the first sequence's last token, computed as while sampling: with what the prefix cache held beforehand.

    Empty where there are no sequences. One is enough: a cache that is reused for one prompt is reused for all.
    """
    reused_tokens: int
    """Tokens that the prefix cache held already. The first to ask under a new policy must find none."""


class Engine(Protocol):
    """One model, able to sample under the policies that it holds. All its methods are called from one thread."""

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The policies that can be sampled, the newest last."""

    @property
    def loads_in_place(self) -> bool:
        """Whether loading overwrites the policy before, so that no request may be unfinished meanwhile."""

    @property
    def has_unfinished(self) -> bool:
        """Whether `step` has anything to do."""

    def load(self, weights: Adapter | FullWeights, run: int = 0) -> Loaded:
        """Hold this policy as the newest of a run, and say what was found when it was read back.

        Older policies of the run go, but for the last `staleness` and those with requests; other runs' stay.

        Raises:
            SyncError: The weights cannot be served in the way that this engine serves.
        """

    def forget(self, run: int) -> None:
        """Let go of all policies of a run that has ended."""

    def add(
        self, stream: int, requests: Sequence[Request], options: SamplingOptions, policy: Policy, run: int = 0
    ) -> None:
        """Take in requests, which belong to one stream. Where several runs share the engine, it serves them in turn.

        Raises:
            SyncError: The policy is not held for this run.
        """

    def step(self) -> list[tuple[int, Rollout]]:
        """Go on a little; return what ended, each with its stream."""

    def abort(self, stream: int) -> None:
        """Forget the unfinished requests of a stream."""

    def score(self, sequences: Sequence[Sequence[int]]) -> Scores:
        """Score sequences of token ids under the policy that was loaded last."""


def arrived(weights: Adapter | FullWeights) -> Policy:
    """The policy that arrived: its fingerprint is computed from the bytes, not taken from what it says of itself."""
    return Policy(version=weights.policy.version, fingerprint=hashlib.sha256(weights.tensors).hexdigest()[:16])


def not_held(policy: Policy, held: Sequence[Policy]) -> SyncError:
    """The error of an engine that is asked to sample a policy which it does not hold."""
    names = ", ".join(one.name for one in held) or "none"
    return SyncError(
        f"this sampler was asked for {policy.name} but holds {names}: it missed a sync, or was started anew without one"
    )


def sample_all(engine: Engine, requests: Sequence[Request], options: SamplingOptions) -> list[Rollout]:
    """Sample requests to the end under the newest policy, with an engine that nobody else uses."""
    engine.add(0, requests, options, engine.policies[-1])
    rollouts = []
    while engine.has_unfinished:
        rollouts += [rollout for _, rollout in engine.step()]
    return rollouts


def request_seed(*parts: object) -> int:
    """A seed below 2**31 from what identifies a completion, as (run seed, phase, step, task id, index)."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
