"""Records of samplers that were lost, were replaced, or joined later. They are events of the run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerLost:
    """A sampler died, hangs, or failed a proof, and serves no longer."""

    sampler: str
    """Name of the sampler."""
    reason: str
    """The reason, one sentence."""
    num_completions: int
    """Unfinished completions of the sampler, which others sample again with the same seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerReplaced:
    """A new sampler has proved its policy in the place of a lost one."""

    sampler: str
    """Name of the sampler."""
    seconds: float
    """Seconds since the loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerJoined:
    """A sampler that had no place when the run started has one, and has proved its policy."""

    sampler: str
    """Name of the sampler."""
    seconds: float
    """Seconds since it got its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicatesDropped:
    """A sampler returned completions that nobody requested, or that had arrived before; they were dropped."""

    sampler: str
    """Name of the sampler."""
    num_completions: int
    """Number of dropped completions."""


SamplerEvent = SamplerLost | SamplerReplaced | SamplerJoined | DuplicatesDropped
"""Any of these events."""
