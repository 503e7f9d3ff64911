"""What every sampling engine does, whichever library stands behind it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from rft.types import Adapter, Policy, Rollout


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


class Engine(Protocol):
    """One model, able to sample completions under the policy that was loaded last."""

    @property
    def policy(self) -> Policy:
        """The policy that is served."""

    def load(self, adapter: Adapter) -> Policy:
        """Serve this adapter from the next request on, and say which policy that is."""

    def sample(self, requests: Sequence[Request], options: SamplingOptions) -> Iterator[list[Rollout]]:
        """Sample every request; yield completions as they end, in the order in which they end."""


def request_seed(*parts: object) -> int:
    """A seed below 2**31 from what identifies a completion, as (run seed, phase, step, task id, index)."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
