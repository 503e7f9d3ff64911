"""DPO on graded groups: the steps are those of TRL's own trainer, and groups without a pair teach nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rft.data.preference_rows import RECORDED
from rft.turns import Author, Turn
from rft.types import Adapter, GradedGroup, Policy, Publication, Rollout
from tests.learning.trl_options import LORA, OPTIONS

pytestmark = pytest.mark.e2e  # real libraries: too slow for a unit test

PAIRS = [
    ((10, 11, 12), (20, 21, 2), (30, 31, 32, 33, 2)),
    ((10, 13), (40, 2), (41, 42, 2)),
    ((10, 14, 15, 16), (50, 51, 52, 2), (53, 2)),
]
"""Prompt, chosen and rejected completion."""


@pytest.fixture
def pairs_for(make_group: Callable[..., GradedGroup], make_rollout: Callable[..., Any]) -> Callable[..., Any]:
    """`pairs_for(policy)`: the pairs as groups, the chosen completion last."""

    def make(policy: Policy) -> list[GradedGroup]:
        groups = []
        for prompt, chosen, rejected in PAIRS:
            rollouts = tuple(
                make_rollout(
                    index=index, policy=policy, prompt_ids=prompt, completion_ids=ids, logprobs=(math.nan,) * len(ids)
                )
                for index, ids in enumerate((rejected, chosen))
            )
            groups.append(replace(make_group([0.0, 1.0]), rollouts=rollouts))
        return groups

    return make


def steps_of_trl(model: Path, folder: Path, *, num_steps: int) -> list[dict[str, float]]:
    """The metrics of TRL's DPOTrainer on the same pairs."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    class OnTokens(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    trainer = OnTokens(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        args=DPOConfig(
            output_dir=str(folder),
            max_steps=num_steps,
            per_device_train_batch_size=len(PAIRS),
            beta=0.3,
            lr_scheduler_type="constant",
            **OPTIONS,
        ),
        processing_class=AutoTokenizer.from_pretrained(model),
        train_dataset=Dataset.from_dict(
            {name: [list(pair[part]) for pair in PAIRS] for part, name in enumerate(names)}
        ),
        peft_config=LoraConfig(**LORA),
    )
    trainer.train()
    return [line for line in trainer.state.log_history if "loss" in line]


@pytest.mark.parametrize(
    "options",
    [
        {"completions_per_prompt": 2, "temperature": 1.0, "completions_per_micro_batch": 6},
        # Recorded pairs have no policy, and ignore settings of sampling.
        {"pairs": "recorded", "completions_per_prompt": 8, "temperature": 0.7, "completions_per_micro_batch": 1},
    ],
)
def test_the_steps_are_those_of_trls_own_trainer(
    build: Callable[..., Any], pairs_for: Any, tiny_model: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    learner = build(kind="dpo", steps=3, prompts_per_step=3, beta=0.3, **options)
    ours = [learner.learn(pairs_for(RECORDED if "pairs" in options else learner.publish().policy)) for _ in range(3)]
    theirs = steps_of_trl(tiny_model, tmp_path / "trl", num_steps=3)
    names = {
        "loss": "loss",
        "grad_norm": "grad_norm",
        "dpo/accuracy": "rewards/accuracies",
        "dpo/margin": "rewards/margins",
    }
    for ours_name, name in names.items():
        assert [step[ours_name] for step in ours] == pytest.approx(
            [step[name] for step in theirs], rel=1e-3, abs=1e-6
        ), name
    assert ours[2]["loss"] < ours[0]["loss"] == pytest.approx(math.log(2), rel=1e-6)
    assert (ours[0]["dpo/chosen_tokens"], ours[0]["dpo/rejected_tokens"]) == (3.0, 10 / 3)


@pytest.mark.parametrize(
    ("rewards", "options", "reason"),
    [
        ([0.5, 0.5, 0.5, 0.5], {}, "equal_rewards"),
        ([None, None, 1.0, None], {}, "too_few_rewards"),
        ([1.0, 0.5, 0.75, 0.5], {"min_gap": 0.5}, "small_gap"),
        # The only bad completion is the last one, which was cut.
        ([1.0, 1.0, 1.0, 0.0], {"mask_truncated": True}, "equal_rewards"),
    ],
)
def test_a_group_without_a_pair_teaches_nothing(
    build: Callable[..., Any],
    group_for: Callable[..., GradedGroup],
    rewards: Sequence[float | None],
    options: dict[str, Any],
    reason: str,
) -> None:
    learner = build(kind="dpo", **options)
    before = learner.publish().policy.fingerprint
    metrics = learner.learn([group_for(learner, rewards)])
    counts = dict.fromkeys(("learned_from", "equal_rewards", "too_few_rewards", "small_gap"), 0.0) | {reason: 1.0}
    assert {name: metrics[f"pairs/{name}"] for name in counts} == counts
    assert (metrics["loss"], metrics["grad_norm"], metrics["completions/learned_from"]) == (0.0, 0.0, 0.0)
    assert learner.publish().policy.fingerprint == before


def test_the_reference_is_the_start_of_the_run(
    build: Callable[..., Any], group_for: Callable[..., GradedGroup]
) -> None:
    rewards = [1.0, 0.0, None, None]
    parent = build(folder="parent", kind="dpo", beta=0.3)
    parent.learn([group_for(parent, rewards)])
    trained: Publication = parent.publish()
    # Against the base model, the parent already prefers the chosen completion.
    assert parent.learn([group_for(parent, rewards)])["dpo/margin"] > 1e-3

    weights = trained.weights
    assert isinstance(weights, Adapter)
    start = replace(weights, policy=Policy(version=0, fingerprint=weights.policy.fingerprint))
    learner = build(kind="dpo", beta=0.3, start=start)
    batch = [group_for(learner, rewards)]
    first = learner.learn(batch)
    chosen, rejected, *left_out = learner.start_logprobs(4)
    assert left_out == [None, None]
    for row, rollout in zip((chosen, rejected), batch[0].rollouts, strict=False):
        assert row == pytest.approx(rollout.logprobs, abs=1e-3)  # the policy of the first step is the start
    second = learner.learn([group_for(learner, rewards)])
    assert first["dpo/chosen_log_ratio"] == pytest.approx(0.0, abs=1e-5)
    assert first["loss"] == pytest.approx(math.log(2), rel=1e-5)
    assert second["dpo/margin"] > 1e-3


def test_dropout_does_not_move_the_policy_away_from_its_start(
    build: Callable[..., Any], group_for: Callable[..., GradedGroup]
) -> None:
    """The first comparison is that of the start with itself. TRL's DPOTrainer has no dropout at all."""
    learner = build(kind="dpo", beta=0.3, adapter={"rank": 4, "alpha": 8, "dropout": 0.5})
    learner.learn([group_for(learner, [1.0, 0.0, None, None])])
    weights = learner.publish().weights
    assert isinstance(weights, Adapter)
    start = replace(weights, policy=Policy(version=0, fingerprint=weights.policy.fingerprint))
    again = build(folder="again", kind="dpo", beta=0.3, start=start, adapter={"rank": 4, "alpha": 8, "dropout": 0.5})
    metrics = again.learn([group_for(again, [1.0, 0.0, None, None])])
    assert metrics["dpo/margin"] == pytest.approx(0.0, abs=1e-6)
    assert metrics["loss"] == pytest.approx(math.log(2), rel=1e-6)
    assert metrics["grad_norm"] > 0
    assert again._stepped.trainer.model.training


@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_what_an_environment_says_counts_like_a_prompt(build: Callable[..., Any], pairs_for: Any, kind: str) -> None:
    """An episode that begins with tokens of the environment is the completion of a longer prompt."""

    def as_episode(rollout: Rollout) -> Rollout:
        said, rest = rollout.prompt_ids[1:], rollout.completion_ids
        turns = (
            Turn(author=Author.ENVIRONMENT, start=0, end=len(said)),
            Turn(author=Author.POLICY, start=len(said), end=len(said) + len(rest)),
        )
        logprobs = (0.0,) * len(said) + rollout.logprobs
        return replace(
            rollout, prompt_ids=rollout.prompt_ids[:1], completion_ids=said + rest, logprobs=logprobs, turns=turns
        )

    from_start: list[list[list[float]]] = []

    def steps(convert: Callable[[Rollout], Rollout], folder: str) -> list[dict[str, float]]:
        sizes = {"prompts_per_step": 3, "completions_per_prompt": 2, "completions_per_micro_batch": 2}
        learner = build(kind=kind, folder=folder, beta=0.3, temperature=1.0, max_completion_tokens=16, **sizes)
        found = []
        for _ in range(2):
            groups = pairs_for(learner.publish().policy)
            found.append(
                learner.learn(
                    [replace(group, rollouts=tuple(convert(one) for one in group.rollouts)) for group in groups]
                )
            )
        from_start.append(learner.start_logprobs(2))
        return found

    single, episodes = steps(lambda rollout: rollout, "single"), steps(as_episode, "episodes")
    for name in ("loss", "grad_norm"):
        assert [step[name] for step in episodes] == pytest.approx([step[name] for step in single], rel=1e-4), name
    assert episodes[1]["loss"] < episodes[0]["loss"]
    of_single, of_episodes = from_start
    for row, longer in zip(of_single, of_episodes, strict=True):
        said, own = longer[: -len(row)], longer[-len(row) :]
        assert said == [0.0, 0.0] and own == pytest.approx(row, abs=1e-3)  # the policy did not sample what was said
