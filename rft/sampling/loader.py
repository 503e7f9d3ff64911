"""Loads a policy into samplers, and proves each load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rft.errors import LearnerLost
from rft.sampling.contact import Contact
from rft.sampling.engines import Engines
from rft.sampling.failures import GO_ON, cause, explain, is_loss, is_without_weights, loss
from rft.sampling.members import Member, Proofs
from rft.types import Publication, StoredWeights


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Loads policies for one run."""

    engines: Engines
    """The samplers."""
    contact: Contact
    """Calls the samplers."""
    proofs: Proofs
    """Judges the loads."""
    run: int
    """Number of the run."""

    async def load(self, members: Sequence[Member], publication: Publication) -> list[tuple[Member, str]]:
        """Load a policy into samplers and prove each load. Lost samplers are given up.

        Returns:
            The samplers that could not load or prove the policy, with the problem.

        Raises:
            LearnerLost: The learner's process died, and the weights of the policy with it.
            WaitTimeout: A sampler that is alive did not reply in time.
        """
        policy, weights = publication.policy, publication.weights
        for member in members:
            member.begin_load(self.engines.spec)
        stored = weights.reference if isinstance(weights, StoredWeights) else await self.engines.store(weights)
        by_sampler = {member.sampler: member for member in members}
        calls = {sampler: sampler.actor.load.remote(stored, self.run) for sampler in by_sampler}
        answers = await self.contact.ask(calls, f"to load {policy.name}")
        failed = []
        for sampler, answer in answers.items():
            member = by_sampler[sampler]
            if not isinstance(answer, BaseException):
                proof = self.proofs.prove(publication, answer, sampler)
                if proof.problems:
                    failed.append((member, "; ".join(proof.problems)))
                else:
                    member.end_load(policy, answer, proof)
            elif isinstance(weights, StoredWeights) and is_without_weights(answer):
                raise LearnerLost(
                    f"the learner's process died before the samplers had loaded {policy.name}, and took its weights "
                    f"along: {cause(answer)}; {GO_ON}"
                )
            elif is_loss(answer):
                self.engines.lose(sampler, loss(sampler.name, answer))
            else:
                failed.append((member, f"could not load it: {explain(answer)}"))
        return failed
