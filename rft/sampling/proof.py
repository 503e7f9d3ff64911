"""The proof of a sync: checks that a sampler serves the policy that the learner published.

Three checks, in this order:

1. The weights: the fingerprint of the bytes, and the number of matching modules when the weights are read back.
2. The canaries: their log-probabilities, computed anew by the engine, equal the learner's.
3. The prefix cache: the same log-probabilities through the cache, which must be empty beforehand.

If the learner's scores differ from those of the base model by more than the tolerance, agreement with the learner also
excludes the base model. Before that, the proof rests on the first check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from rft.errors import SyncError
from rft.sampling.actor import Confirmation
from rft.sampling.engine import Scores
from rft.types import Logprobs, Publication

TOLERANCES = {"float32": 1e-4, "float16": 0.02, "bfloat16": 0.05}
"""Maximum mean |difference of log-probabilities| between engine and learner, by dtype."""
TOLERANCE_OVER_GAP = 3.0
"""Measured tolerance, as a multiple of the smallest gap between the base models of an engine and the learner."""
MIN_MEASURED, MAX_MEASURED = 0.01, 0.1
"""Limits of a measured tolerance. Without the upper limit, a wrong engine would widen its own proof."""
MAX_OVER_MEAN = 20.0
"""Maximum difference of a single token, as a multiple of the tolerance of the mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """The difference between two sets of log-probabilities.

    Example:
        Gap(mean=2e-7, largest=5e-6)
    """

    mean: float
    """Mean |difference|."""
    largest: float
    """Largest |difference|."""

    def within(self, tolerance: float) -> bool:
        """Whether the gap can result from limited precision; False for NaN."""
        return self.mean <= tolerance and self.largest <= MAX_OVER_MEAN * tolerance

    def __str__(self) -> str:
        return f"{self.mean:.2g} on average and {self.largest:.2g} at most"


def gap(ours: Logprobs, theirs: Logprobs) -> Gap:
    """Return the gap between two scores of the same sequences; zero without sequences.

    Raises:
        ValueError: The scores have different shapes.
    """
    differences = [
        abs(first - second)
        for first_row, second_row in zip(ours, theirs, strict=True)
        for first, second in zip(first_row, second_row, strict=True)
    ]
    if not differences:
        return Gap(mean=0.0, largest=0.0)
    # `max` may ignore NaN; the sum does not.
    return Gap(mean=sum(differences) / len(differences), largest=max(differences))


def measured_tolerance(base_gaps: Mapping[str, Gap]) -> float:
    """Return the tolerance of a run in 16 bits: three times the smallest gap between base models, within limits.

    Equal engines have nearly equal gaps. A larger gap belongs to a wrong engine, which must not widen the proofs; each
    proof judges the base model of its own sampler.

    Args:
        base_gaps: Gap between the base models of a sampler and the learner, by name of the sampler.

    Raises:
        SyncError: All gaps are too large for limited precision.
    """
    sound = [gap.mean for gap in base_gaps.values() if gap.within(MAX_MEASURED)]
    if not sound:
        raise SyncError("\n".join(f"{name}: {_base_problem(gap, MAX_MEASURED)}" for name, gap in base_gaps.items()))
    return min(MAX_MEASURED, max(MIN_MEASURED, TOLERANCE_OVER_GAP * min(sound)))


def base_problem(ours: Logprobs, theirs: Logprobs, *, whose: str, tolerance: float) -> str:
    """Compare the scores of the canaries under two base models; return the problem, or an empty text.

    Args:
        ours: Scores of a sampler.
        theirs: Scores of the learner, or of another sampler.
        whose: Owner of the other base model, in the genitive, for the message.
        tolerance: Tolerance of the mean gap.
    """
    difference = _learners_gap(ours, theirs) if theirs else Gap(mean=0.0, largest=0.0)
    return "" if difference.within(tolerance) else _base_problem(difference, tolerance, whose)


def _base_problem(gap: Gap, tolerance: float, whose: str = "the learner's") -> str:
    return (
        f"its base model differs from {whose} by {gap} {_allowed(tolerance)}: do both load the same folder in "
        "the same dtype? does sampler.engine change the model (quantization, dtype, overrides)?"
    )


def _allowed(tolerance: float) -> str:
    return f"(allowed: {tolerance:.2g} and {MAX_OVER_MEAN * tolerance:.2g})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The result of the proof of one sampler.

    Example:
        Proof(problems=(), gap=Gap(...), base_gap=Gap(...))
    """

    problems: tuple[str, ...]
    """Failed checks, one sentence each, with likely causes; empty if all checks passed."""
    gap: Gap
    """Gap between engine and learner under the new policy."""
    base_gap: Gap
    """Gap between the new policy and the base model, both in the engine."""


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
    """Check the confirmation of one sampler.

    Args:
        publication: The learner's publication.
        confirmation: The sampler's confirmation.
        base: The sampler's scores of the canaries under the base model.
        tolerance: Tolerance of the mean gap.
        known: Scores of other policies by name, to identify a wrong policy.
    """
    loaded, scores = confirmation.loaded, confirmation.scores
    problems = list(loaded.problems)
    if loaded.policy != publication.policy:
        problems.insert(
            0, f"it holds {loaded.policy.name}: the bytes that arrived are not those that the learner published"
        )
    if loaded.modules_matched == 0 and not loaded.problems:
        problems.append("the model has none of its modules")
    if scores.reused_tokens:
        problems.append(
            f"its prefix cache gave {scores.reused_tokens} tokens of an older policy to the first request of this "
            "policy: salt the cache by policy, or empty it"
        )
    if not publication.canary_logprobs:
        nothing = Gap(mean=0.0, largest=0.0)
        return Proof(problems=tuple(problems), gap=nothing, base_gap=nothing)
    anew = _learners_gap(scores.logprobs, publication.canary_logprobs)
    base_gap = gap(scores.logprobs, base.logprobs)
    cached = gap((scores.last,), (tuple(row[-1] for row in scores.logprobs[: len(scores.last)]),)).largest
    of_base = _learners_gap(base.logprobs, publication.base_canary_logprobs)
    if not of_base.within(tolerance):
        problems.append(_base_problem(of_base, tolerance))
    if not anew.within(tolerance):
        problems.append(
            f"its log-probabilities of the canaries differ from the learner's by {anew} {_allowed(tolerance)}, from "
            f"the base model's by {base_gap}; {_what_it_is(scores.logprobs, base, known, tolerance)}"
        )
    elif not cached <= MAX_OVER_MEAN * tolerance:  # one token, so the limit of a single token; False for NaN
        problems.append(
            f"its log-probabilities agree with the learner's when computed anew, but that of one token differs through "
            f"the prefix cache by {cached:.2g} (allowed: {MAX_OVER_MEAN * tolerance:.2g}): the cache contains results "
            "of another policy"
        )
    elif has_moved(publication, tolerance) and base_gap.mean <= tolerance:
        problems.append(f"its log-probabilities of the canaries are the base model's (they differ by {base_gap})")
    return Proof(problems=tuple(problems), gap=anew, base_gap=base_gap)


def _learners_gap(engines: Logprobs, learners: Logprobs) -> Gap:
    """Return the gap between an engine's scores and those of a learner.

    A checkpoint of rft 0.1 contains scores of shorter canaries. They are the beginnings of today's, so their tokens
    have the same scores, and only these are compared. An engine must not return fewer.
    """
    return gap(tuple(ours[: len(theirs)] for ours, theirs in zip(engines, learners, strict=True)), learners)


def _what_it_is(scores: Logprobs, base: Scores, known: Sequence[tuple[str, Logprobs]], tolerance: float) -> str:
    """Identify the policy of the scores, or return likely causes."""
    for name, others in chain([("the base model", base.logprobs)], known):
        if others and _learners_gap(scores, others).within(tolerance):
            return f"they equal those of {name}: is the new policy loaded but not used?"
    return (
        "they match no known policy: check the adapter's lora_alpha and r, and that learner and sampler have the same "
        "base model and dtype"
    )
