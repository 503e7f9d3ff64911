"""Which rollouts a learner takes, and what its checkpoints know of the past."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rft.errors import LearnError
from rft.learning.publication_record import PublicationRecord
from rft.types import Adapter, FullWeights, GradedGroup, Policy, Publication

BASE = Policy(version=0, fingerprint="base")


def policy(version: int) -> Policy:
    return Policy(version=version, fingerprint=f"f{version}")


def publication(version: int) -> Publication:
    weights = Adapter(policy=policy(version), config={"r": 4}, tensors=f"tensors {version}".encode())
    return Publication(weights=weights, canary_logprobs=((-0.5, -version),), base_canary_logprobs=((-1.0, -2.0),))


def record(*versions: int, staleness: int = 0) -> PublicationRecord:
    made = PublicationRecord(BASE, staleness)
    for version in versions:
        made.add(publication(version))
    return made


@pytest.fixture
def groups(make_group: Callable[..., GradedGroup]) -> Callable[..., list[GradedGroup]]:
    """`groups(policy, ...)`: a group of two rollouts of each policy."""

    def make(*policies: Policy) -> list[GradedGroup]:
        return [make_group([1.0, 0.0], f"t{number}", policy=each) for number, each in enumerate(policies)]

    return make


Groups = Callable[..., list[GradedGroup]]


def test_the_first_step_learns_from_the_base_model(groups: Groups) -> None:
    record().check(groups(BASE), steps_done=0)
    with pytest.raises(LearnError, match=r"sampled by version 0 \(other\): this learner did not publish"):
        record().check(groups(replace(BASE, fingerprint="other")), steps_done=0)


def test_strictly_on_policy(groups: Groups) -> None:
    record(1, 2).check(groups(policy(2), policy(2)), steps_done=2)
    with pytest.raises(LearnError) as refused:
        record(1, 2).check(groups(policy(2), policy(1)), steps_done=2)
    # Only the last is on record at staleness 0, so version 1 is unknown.
    assert str(refused.value) == (
        "refused 2 rollout(s); the first is rollout 0 of task t1, sampled by version 1 (f1): this learner did not "
        "publish the policy; a sampler served wrong weights. Published: version 0 (base), version 2 (f2)"
    )


def test_the_bound_on_staleness(groups: Groups) -> None:
    stale = record(1, 2, 3, staleness=2)
    stale.check(groups(policy(1), policy(2), policy(3)), steps_done=3)
    with pytest.raises(LearnError, match=r"too old: after 3 steps the learner accepts versions 1 to 3;"):
        stale.check(groups(BASE), steps_done=3)
    record(1, 2, staleness=2).check(groups(BASE, policy(1), policy(2)), steps_done=2)


def test_a_right_version_with_wrong_weights(groups: Groups) -> None:
    with pytest.raises(LearnError, match=r"rollout 0 of task t0, sampled by version 1 \(forged\)"):
        record(1).check(groups(Policy(version=1, fingerprint="forged")), steps_done=1)


def test_publishing_again_does_not_push_out_the_past(groups: Groups) -> None:
    made = record(1, 2, 2, 2, staleness=1)
    assert [each.policy.version for each in made.all()] == [1, 2]
    assert made.newest(2) == publication(2)
    assert made.newest(3) is None


def test_the_record_comes_back_from_a_checkpoint(tmp_path: Path, groups: Groups) -> None:
    before = record(1, 2, 3, staleness=2)
    before.save(tmp_path)
    assert sorted(path.name for path in (tmp_path / "published").iterdir()) == [
        "policy-v1-f1.safetensors",
        "policy-v2-f2.safetensors",
        "publications.json",
    ]
    after = record(staleness=2)
    after.load(tmp_path, publication(3))
    assert after.all() == before.all()
    after.check(groups(policy(1), policy(3)), steps_done=3)


def test_full_weights_come_back_too(tmp_path: Path) -> None:
    before = PublicationRecord(BASE, 1)
    for version in (1, 2):
        before.add(Publication(weights=FullWeights(policy=policy(version), tensors=b"all")))
    before.save(tmp_path)
    after = PublicationRecord(BASE, 1)
    after.load(tmp_path, before.all()[-1])
    assert after.all() == before.all()


def test_other_weights_than_were_saved_are_refused(tmp_path: Path) -> None:
    record(1).save(tmp_path)
    other = Publication(weights=FullWeights(policy=Policy(version=1, fingerprint="other"), tensors=b""))
    with pytest.raises(LearnError, match=r"saved was version 1 \(f1\), restored was version 1 \(other\)"):
        record().load(tmp_path, other)
