"""The proof of a sync: does a sampler really serve the policy that the learner published?

Three things must agree, in this order:

1. what arrived: the fingerprint of the bytes, and how many modules of the model they were found in when read back;
2. what it says: the canaries' log-probabilities, computed anew by the engine, equal the learner's;
3. what it would say while sampling: the same, through the prefix cache, which must hold nothing beforehand.

Once the learner's own scores have moved away from the base model's by more than the tolerance, agreement with the
learner also rules out that the base model is served; before, the proof rests on what was read back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from rft.sampling.actor import Confirmation
from rft.sampling.engine import Scores
from rft.types import Logprobs, Publication

TOLERANCES = {"float32": 1e-4, "float16": 0.02, "bfloat16": 0.05}
"""Largest mean |difference of log-probabilities| between engine and learner, by the type that they compute in."""
MAX_OVER_MEAN = 20.0
"""The largest difference of a single token may be so many times the tolerance of the mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """How far two sets of log-probabilities are apart.

    Example:
        Gap(mean=2e-7, largest=5e-6)
    """

    mean: float
    """Mean |difference|."""
    largest: float
    """Largest |difference|."""

    def within(self, tolerance: float) -> bool:
        """Whether that can be the type's limited precision. Not a number never is."""
        return self.mean <= tolerance and self.largest <= MAX_OVER_MEAN * tolerance

    def __str__(self) -> str:
        return f"{self.mean:.2g} on average and {self.largest:.2g} at most"


def gap(ours: Logprobs, theirs: Logprobs) -> Gap:
    """The gap between two scores of the same sequences; zero when there are none.

    Raises:
        ValueError: They are not of the same sequences.
    """
    differences = [
        abs(one - other)
        for row, other_row in zip(ours, theirs, strict=True)
        for one, other in zip(row, other_row, strict=True)
    ]
    if not differences:
        return Gap(mean=0.0, largest=0.0)
    # `max` may pass over what is not a number; the sum does not.
    return Gap(mean=sum(differences) / len(differences), largest=max(differences))


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the proof of one sampler came to.

    Example:
        Proof(problems=(), gap=Gap(...), base_gap=Gap(...))
    """

    problems: tuple[str, ...]
    """What speaks against it, one sentence each, with what to check; empty when nothing does."""
    gap: Gap
    """Between engine and learner under the new policy."""
    base_gap: Gap
    """Between the new policy and the base model, both in the engine."""


def has_moved(publication: Publication, tolerance: float) -> bool:
    """Whether the learner's policy differs measurably from the base model: by more than twice the tolerance."""
    return gap(publication.canary_logprobs, publication.base_canary_logprobs).mean > 2 * tolerance


def prove(
    publication: Publication,
    confirmation: Confirmation,
    base: Scores,
    *,
    tolerance: float,
    known: Sequence[tuple[str, Logprobs]] = (),
) -> Proof:
    """Judge what one sampler confirmed.

    Args:
        publication: What the learner published.
        confirmation: What the sampler says of it.
        base: What the sampler said to the canaries under the base model.
        tolerance: Of the mean gap.
        known: Scores of other policies by name, to say which one it is that is served instead.
    """
    loaded, scores = confirmation.loaded, confirmation.scores
    problems = list(loaded.problems)
    if loaded.policy != publication.policy:
        problems.insert(
            0, f"it holds {loaded.policy.name}: the bytes that arrived are not those that the learner published"
        )
    if loaded.modules_matched == 0 and not loaded.problems:
        problems.append("none of its modules was found in the model")
    if scores.reused_tokens:
        problems.append(
            f"its prefix cache gave {scores.reused_tokens} tokens to the first request of this policy, which an older "
            "policy computed: the cache must be salted by policy, or emptied"
        )
    if not publication.canary_logprobs:
        nothing = Gap(mean=0.0, largest=0.0)
        return Proof(problems=tuple(problems), gap=nothing, base_gap=nothing)
    anew = gap(scores.logprobs, publication.canary_logprobs)
    base_gap = gap(scores.logprobs, base.logprobs)
    cached = gap((scores.last,), (tuple(row[-1] for row in scores.logprobs[: len(scores.last)]),))
    allowed = f"(allowed: {tolerance:.2g} and {MAX_OVER_MEAN * tolerance:.2g})"
    of_base = gap(base.logprobs, publication.base_canary_logprobs)
    if not of_base.within(tolerance):
        problems.append(
            f"its base model differs from the learner's by {of_base} {allowed}: do both load the same folder, in the "
            "same dtype? does sampler.engine change the model (quantization, dtype, overrides)?"
        )
    if not anew.within(tolerance):
        problems.append(
            f"its log-probabilities of the canaries differ from the learner's by {anew} {allowed}, from the base "
            f"model's by {base_gap}; {_what_it_is(scores.logprobs, base, known, tolerance)}"
        )
    elif not cached.within(tolerance):
        problems.append(
            f"computed anew, its log-probabilities agree with the learner's; through the prefix cache they differ from "
            f"that by {cached} {allowed}: the cache holds what another policy computed"
        )
    elif has_moved(publication, tolerance) and base_gap.mean <= tolerance:
        problems.append(f"its log-probabilities of the canaries are the base model's (they differ by {base_gap})")
    return Proof(problems=tuple(problems), gap=anew, base_gap=base_gap)


def _what_it_is(scores: Logprobs, base: Scores, known: Sequence[tuple[str, Logprobs]], tolerance: float) -> str:
    """Which policy the scores are of, if any that is known; else what to check."""
    for name, others in chain([("the base model", base.logprobs)], known):
        if others and gap(scores, others).within(tolerance):
            return f"they are those of {name}: is the new policy loaded but not used?"
    return (
        "they are of no policy known: check the adapter's lora_alpha and r, and that learner and sampler have the same "
        "base model and dtype"
    )
