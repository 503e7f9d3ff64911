"""The judgement on a sync: figures worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rft.sampling.actor import Confirmation
from rft.sampling.engine import Loaded, Scores
from rft.sampling.proof import Gap, gap, has_moved, prove
from rft.types import Adapter, Policy, Publication

POLICY = Policy(version=3, fingerprint="f3")
LEARNER = ((-1.0, -2.0), (-3.0, -4.0))
BASE = ((-1.5, -2.5), (-3.5, -4.5))
PUBLICATION = Publication(
    weights=Adapter(policy=POLICY, config={}, tensors=b""), canary_logprobs=LEARNER, base_canary_logprobs=BASE
)
CONFIRMATION = Confirmation(
    loaded=Loaded(policy=POLICY, modules_matched=7),
    scores=Scores(logprobs=LEARNER, last=(-2.0,), reused_tokens=0),
    load_s=0.0,
    proof_s=0.0,
)
ENGINE_BASE = Scores(logprobs=BASE, last=(-2.5,), reused_tokens=0)


def judge(
    publication: Publication = PUBLICATION, base: Scores = ENGINE_BASE, known: Any = (), **changes: Any
) -> tuple[str, ...]:
    """The problems, with changes to the scores, or to `loaded`."""
    loaded = changes.pop("loaded", CONFIRMATION.loaded)
    confirmation = replace(CONFIRMATION, loaded=loaded, scores=replace(CONFIRMATION.scores, **changes))
    return prove(publication, confirmation, base, tolerance=1e-4, known=known).problems


def test_a_gap_is_the_mean_and_the_largest_difference() -> None:
    assert gap(((0.0, -1.0), (-2.0,)), ((0.0, -1.5), (-1.0,))) == Gap(mean=0.5, largest=1.0)
    assert gap((), ()) == Gap(mean=0.0, largest=0.0)
    with pytest.raises(ValueError, match="longer"):
        gap(((0.0,),), ((0.0, 1.0),))


@pytest.mark.parametrize(
    ("found", "is_within"),
    [(Gap(mean=0.1, largest=2.0), True), (Gap(mean=0.11, largest=0.2), False), (Gap(mean=0.1, largest=2.1), False)],
)
def test_the_largest_gap_may_be_20_times_the_mean(found: Gap, is_within: bool) -> None:
    assert found.within(0.1) is is_within


def test_what_is_not_a_number_is_never_within() -> None:
    nan = float("nan")
    assert not gap(((nan, 0.0),), ((0.0, 0.0),)).within(1.0)
    assert not gap(((0.0, nan),), ((0.0, 0.0),)).within(1.0)
    assert judge(logprobs=((-1.0, nan), (-3.0, -4.0)), last=(-2.0,))


def test_agreement_is_a_proof() -> None:
    proof = prove(PUBLICATION, CONFIRMATION, ENGINE_BASE, tolerance=1e-4)
    assert proof.problems == ()
    assert (proof.gap, proof.base_gap) == (Gap(mean=0.0, largest=0.0), Gap(mean=0.5, largest=0.5))


def test_the_learner_has_moved_from_twice_the_tolerance_on() -> None:
    assert has_moved(PUBLICATION, 0.24)
    assert not has_moved(PUBLICATION, 0.25)


def test_another_policy_than_the_learner_published() -> None:
    [problem] = judge(loaded=Loaded(policy=replace(POLICY, fingerprint="f9"), modules_matched=7))
    assert problem == "it holds policy-v3-f9: the bytes that arrived are not those that the learner published"


def test_what_was_read_back_counts_even_where_the_canaries_agree() -> None:
    assert judge(loaded=Loaded(policy=POLICY, modules_matched=7, problems=("layer 3 differs",))) == ("layer 3 differs",)
    assert judge(loaded=Loaded(policy=POLICY, modules_matched=0)) == ("the model has none of its modules",)


def test_scores_of_the_base_model_are_recognised() -> None:
    [problem] = judge(logprobs=BASE, last=(-2.5,))
    assert "differ from the learner's by 0.5 on average and 0.5 at most (allowed: 0.0001 and 0.002)" in problem
    assert "from the base model's by 0 on average and 0 at most" in problem
    assert "they equal those of the base model: is the new policy loaded but not used?" in problem


def test_scores_of_an_older_policy_are_recognised() -> None:
    older = ((-1.1, -2.1), (-3.1, -4.1))
    [problem] = judge(logprobs=older, last=(-2.1,), known=[("policy-v1-f1", LEARNER), ("policy-v2-f2", older)])
    assert "they equal those of policy-v2-f2" in problem


def test_scores_of_nobody() -> None:
    [problem] = judge(logprobs=((-1.2, -2.0), (-3.0, -4.0)))
    assert "by 0.05 on average and 0.2 at most" in problem
    assert "match no known policy: check the adapter's lora_alpha and r" in problem


def test_a_prefix_cache_that_says_something_else() -> None:
    [problem] = judge(last=(-2.5,))
    assert "that of one token differs through the prefix cache by 0.5 (allowed: 0.002)" in problem


@pytest.mark.parametrize(("last", "is_proof"), [(-2.0019, True), (-2.0021, False), (float("nan"), False)])
def test_one_token_is_held_against_the_tolerance_of_one_token(last: float, is_proof: bool) -> None:
    """20 times the mean's 1e-4; the learner's value is -2."""
    assert (judge(last=(last,)) == ()) is is_proof


def test_a_prefix_cache_that_held_something_already() -> None:
    [problem] = judge(reused_tokens=32)
    assert problem.startswith("its prefix cache gave 32 tokens of an older policy to the first request of this policy")


def test_base_models_that_differ() -> None:
    other = ((-1.6, -2.5), (-3.5, -4.5))
    [problem] = judge(base=replace(ENGINE_BASE, logprobs=other))
    assert problem.startswith("its base model differs from the learner's by 0.025 on average and 0.1 at most")


def test_without_a_learner_only_what_was_read_back_is_judged() -> None:
    alone = Publication(weights=PUBLICATION.weights)
    assert judge(alone, logprobs=(), last=()) == ()
    assert judge(alone, loaded=Loaded(policy=POLICY, modules_matched=0))
    assert not has_moved(alone, 1e-4)


def test_longer_scores_than_those_of_an_older_checkpoint() -> None:
    """The canaries of an older rft are the beginnings of today's."""
    longer = tuple((*row, -9.0) for row in LEARNER)
    base = replace(ENGINE_BASE, logprobs=tuple((*row, -9.0) for row in BASE))
    assert judge(base=base, logprobs=longer, last=(-9.0,)) == ()
    [problem] = judge(base=base, logprobs=base.logprobs, last=(-9.0,), known=[("policy-v1-f1", LEARNER)])
    assert "they equal those of the base model" in problem
    with pytest.raises(ValueError, match="longer"):
        judge(logprobs=((-1.0,), (-3.0,)), last=(-1.0,))
