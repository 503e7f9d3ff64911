"""Which policy a new sampler must load next."""

from __future__ import annotations

from rft.sampling.held_publications import Published
from rft.types import Adapter, Policy, Publication

BASE = Policy(version=0, fingerprint="base")


def publication(version: int, fingerprint: str) -> Publication:
    policy = Policy(version=version, fingerprint=fingerprint)
    return Publication(weights=Adapter(policy=policy, config={}, tensors=b""))


def test_a_sampler_with_the_base_model_gets_the_start_of_the_run_before_a_later_policy() -> None:
    start, first = publication(0, "start"), publication(1, "first")
    published = Published(BASE)
    assert published.next_for([BASE], set()) is None
    published.aim_at(start)
    assert published.next_for([BASE], set()) == start
    published.aim_at(first)
    assert published.next_for([BASE], set()) == first
    assert published.next_for([BASE], {start.policy}) == start
    assert published.next_for([BASE, start.policy], {start.policy}) == first
    assert published.next_for([BASE, first.policy], {start.policy}) is None  # an engine loads versions in order
