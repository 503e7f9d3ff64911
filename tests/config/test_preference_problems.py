"""Settings that do not fit learners of preferences are refused together."""

from __future__ import annotations

import pytest

from rft.config import sequences_per_step
from rft.config.commands import load_training
from rft.config.learners.kto import KtoLearnerConfig
from rft.errors import ConfigError


def problems(*words: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load_training(["experiment=quickstart", "logging=none", *words], "/nowhere")
    return list(refused.value.problems)


def test_keys_of_a_policy_gradient_are_refused() -> None:
    found = problems("learner=dpo", "learner.epochs=2", "learner.clip_high=0.3", "learner.correction=token_mask")
    assert found == [
        f"learner.{key}: learner=dpo takes one optimizer step on a batch, and neither clips nor corrects; leave "
        f"learner.{key.partition('=')[0]} out"
        for key in ("clip_high=0.3", "epochs=2", "correction=token_mask")
    ]


def test_options_of_other_losses_are_refused() -> None:
    (found,) = problems("learner=dpo", "learner.trl.delta=2.0")
    assert found == (
        "learner.trl.delta=2.0: this takes effect only with another learner; the loss of learner=dpo has no such term"
    )
    (found,) = problems("learner=dpo", "learner.trl.sync_ref_model=true")
    assert found.startswith("learner.trl.sync_ref_model=True: this takes effect only with learner=grpo")


def test_a_pair_needs_two_completions() -> None:
    found = problems("learner=dpo", "loop.completions_per_prompt=1")
    assert found[0].startswith(
        "loop.completions_per_prompt=1: learner=dpo pairs the best completion of a prompt with the worst, so it needs "
        "at least 2"
    )


RECORDED = ("learner=dpo", "learner.pairs=recorded")


def test_a_step_of_recorded_pairs_has_two_answers_for_each_prompt() -> None:
    words = ["experiment=quickstart", "logging=none", *RECORDED, "loop.prompts_per_step=12"]
    run = load_training([*words, "loop.completions_per_prompt=1"], "/nowhere")
    assert sequences_per_step(run) == 24


def test_settings_of_sampled_pairs_are_refused_for_recorded_ones() -> None:
    assert problems(*RECORDED, "loop.staleness=1", "learner.min_gap=0.5", "learner.mask_truncated=true") == [
        "loop.staleness=1: learner=dpo learns from preferences, and samples nothing for training; leave loop.staleness "
        "out",
        "learner.min_gap=0.5: recorded pairs have no rewards and no truncated completions; leave learner.min_gap out",
        "learner.mask_truncated=true: recorded pairs have no rewards and no truncated completions; leave "
        "learner.mask_truncated out",
    ]
    assert problems(*RECORDED, "loop.prompts_per_step=3", "learner.completions_per_micro_batch=4") == [
        "learner.completions_per_micro_batch=4: must divide the 6 answers of a step (loop.prompts_per_step): one of 1, "
        "2, 3, 6"
    ]


def test_kto_needs_something_to_compare_with() -> None:
    found = problems("learner=kto", "loop.completions_per_prompt=1")
    assert found[0].startswith("loop.completions_per_prompt=1: learner=kto compares a completion with the mean of its")
    one = ("loop.completions_per_prompt=1", "loop.prompts_per_step=1")
    found = problems("learner=kto", "learner.desirable_reward=0.5", *one)
    assert found[0].startswith("loop.prompts_per_step=1: learner=kto needs at least 2 completions in a step")


def test_equal_rewards_teach_kto_only_with_a_limit() -> None:
    assert KtoLearnerConfig().needs_differences
    assert not KtoLearnerConfig(desirable_reward=0.5).needs_differences


LABELLED = ("learner=kto", "learner.completions=recorded")


def test_a_step_of_labelled_completions_has_as_many_as_prompts() -> None:
    words = ["experiment=quickstart", "logging=none", *LABELLED, "loop.prompts_per_step=12"]
    assert sequences_per_step(load_training(words, "/nowhere")) == 12


def test_settings_of_sampled_completions_are_refused_for_recorded_ones() -> None:
    assert problems(
        *LABELLED, "loop.prompts_per_step=1", "loop.staleness=1", "learner.desirable_reward=1", "learner.epochs=2"
    ) == [
        "loop.prompts_per_step=1: learner=kto needs at least 2 completions in a step",
        "loop.staleness=1: learner=kto learns from labelled completions, and samples nothing for training; leave "
        "loop.staleness out",
        "learner.epochs=2: learner=kto takes one optimizer step on a batch, and neither clips nor corrects; leave "
        "learner.epochs out",
        "learner.desirable_reward=1.0: recorded completions have labels instead of rewards, and none is truncated; "
        "leave learner.desirable_reward out",
    ]
