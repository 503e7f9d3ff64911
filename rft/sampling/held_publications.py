"""The publications that a run's samplers may have to load."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rft.types import Policy, Publication


class Published:
    """The publications of the target and of the policies that open streams need; none of the base model.

    Args:
        base: The policy of the base model.
    """

    def __init__(self, base: Policy) -> None:
        self.target = base
        """The policy that every sampler must prove."""
        self._base = base
        self._by_policy: dict[Policy, Publication] = {}

    @property
    def policies(self) -> list[Policy]:
        """The policies of the publications, in the order of their loads."""
        return list(self._by_policy)

    @property
    def of_target(self) -> Publication | None:
        """The publication of the target; None for the base model."""
        return self._by_policy.get(self.target)

    def aim_at(self, publication: Publication) -> None:
        """Make a policy the target."""
        self.target = publication.policy
        self._by_policy[publication.policy] = publication

    def renew(self, publication: Publication) -> None:
        """Replace the publication of a policy, unless the policy is no longer needed."""
        if publication.policy in self._by_policy:
            self._by_policy[publication.policy] = publication

    def keep(self, needed: Collection[Policy]) -> None:
        """Forget all publications but those of the target and of needed policies."""
        kept = {self.target, *needed}
        self._by_policy = {policy: one for policy, one in self._by_policy.items() if policy in kept}

    def next_for(self, held: Sequence[Policy], needed: Collection[Policy | None]) -> Publication | None:
        """Return the publication that a new sampler must load next; None if it holds the target.

        These are the needed policies, the oldest first, then the target. An engine loads versions in order, so requests
        for a version before its newest wait for another sampler.

        Args:
            held: The policies that the sampler holds.
            needed: The policies of requests that no sampler works on.
        """
        # The start of a run that continues an adapter has version 0, too, and follows the base model.
        newest = max((policy.version for policy in held if policy != self._base), default=-1)
        older = [policy for policy in self._by_policy if policy in needed and policy.version > newest]
        policy = min(older, key=lambda policy: policy.version, default=self.target)
        return None if policy in held else self._by_policy[policy]
