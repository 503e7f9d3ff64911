"""The samplers that serve one run: the policies that each holds, and the last proof of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rft.sampling.actor import Confirmation
from rft.sampling.engines import SamplerHandle
from rft.sampling.proof import TOLERANCES, Proof, base_problem, gap, has_moved, measured_tolerance, prove
from rft.sampling.spec import EngineSpec
from rft.types import Logprobs, Policy, Publication, Sync


@dataclass(eq=False, kw_only=True)
class Member:
    """A sampler that serves a run."""

    sampler: SamplerHandle
    """The sampler."""
    held: list[Policy] = field(default_factory=list)
    """Policies that it can be asked for, the newest last. Its engine may hold more."""
    confirmation: Confirmation | None = None
    """Its report on the newest policy; None for the base model."""
    proof: Proof | None = None
    """The proof of that policy."""

    def begin_load(self, spec: EngineSpec) -> None:
        """Leave out the policies that the engine drops when it loads another."""
        is_in_place = spec.max_lora_rank is None or spec.serve == "merged"
        kept = self.held[-spec.staleness :] if spec.staleness and not is_in_place else []
        if spec.num_runs > 1 and spec.base in self.held and spec.base not in kept:
            kept = [spec.base, *kept]  # other runs still need it
        self.held = kept

    def end_load(self, policy: Policy, confirmation: Confirmation, proof: Proof) -> None:
        """Record a proved policy."""
        self.held.append(policy)
        self.confirmation, self.proof = confirmation, proof


class Proofs:
    """Judges whether samplers serve the published policies, with one tolerance for the run.

    Args:
        spec: The engine of the samplers.
        canary_tolerance: The configured tolerance; None takes that of the dtype.
    """

    def __init__(self, spec: EngineSpec, canary_tolerance: float | None) -> None:
        self.tolerance = TOLERANCES[spec.dtype] if canary_tolerance is None else canary_tolerance
        self.measures_tolerance = spec.dtype != "float32" and canary_tolerance is None
        self._known: list[tuple[str, Logprobs]] = []

    def measure_tolerance(self, samplers: Sequence[SamplerHandle], base_canary_logprobs: Logprobs) -> None:
        """Derive the tolerance from the smallest gap between the base models of a sampler and the learner.

        Raises:
            SyncError: Every base model differs by more than limited precision explains.
        """
        gaps = {one.name: gap(one.base.logprobs, base_canary_logprobs) for one in samplers}
        self.tolerance = measured_tolerance(gaps)

    def prove(self, publication: Publication, confirmation: Confirmation, sampler: SamplerHandle) -> Proof:
        """Check a sampler's report on a policy."""
        return prove(publication, confirmation, sampler.base, tolerance=self.tolerance, known=self._known)

    def base_problem(self, sampler: SamplerHandle, publication: Publication | None, other: SamplerHandle) -> str:
        """Compare the base model of a new sampler with the learner's; return the problem, or an empty text.

        Args:
            sampler: The new sampler.
            publication: A publication, which contains the learner's scores; None before the first.
            other: An older sampler, whose base model takes the place of the learner's before the first publication.
        """
        if publication and publication.base_canary_logprobs:
            theirs, whose = publication.base_canary_logprobs, "the learner's"
        else:
            theirs, whose = other.base.logprobs, f"that of the former {other.name}"
        return base_problem(sampler.base.logprobs, theirs, whose=whose, tolerance=self.tolerance)

    def sync(self, publication: Publication, members: Sequence[Member], *, num_samplers: int, total_s: float) -> Sync:
        """Return the result of a sync, which all members have proved.

        Args:
            publication: The policy.
            members: The samplers that serve it.
            num_samplers: Number of samplers, including those that do not serve.
            total_s: Seconds of the sync.
        """
        policy = publication.policy
        self._known = [*self._known[-1:], (policy.name, publication.canary_logprobs)]
        moved = has_moved(publication, self.tolerance)
        confirmations = [member.confirmation for member in members if member.confirmation]
        metrics = {
            "sync/actors": float(len(members)),
            "sync/quarantined": float(num_samplers - len(members)),
            "sync/modules_matched": float(min(one.loaded.modules_matched for one in confirmations)),
            "sync/bytes": float(publication.weights.num_bytes),
            "sync/canaries_moved": float(moved),
            "sync/load_s": max(one.load_s for one in confirmations),
            "sync/proof_s": max(one.proof_s for one in confirmations),
            "sync/total_s": total_s,
        }
        is_proved = bool(publication.canary_logprobs)
        if is_proved:
            metrics |= _gaps([member.proof for member in members if member.proof])
        if any(one.loaded.is_remote for one in confirmations):
            # Where nothing is read back, agreement proves nothing before the policy differs from the base model.
            is_proved &= moved
            metrics["sync/cache_checked"] = float(all(one.scores.reused_tokens is not None for one in confirmations))
        return Sync(policy=policy, proved=is_proved, metrics=metrics)


def _gaps(proofs: Sequence[Proof]) -> Mapping[str, float]:
    return {
        "sync/canary_gap_mean": max(proof.gap.mean for proof in proofs),
        "sync/canary_gap_max": max(proof.gap.largest for proof in proofs),
        "sync/base_gap_mean": min(proof.base_gap.mean for proof in proofs),
    }
