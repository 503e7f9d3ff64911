"""GroupTrainer against TRL's own trainer: less work, the same gradient.

TRL's is run as it runs with vLLM: a forward pass before the training pass, and everything padded to the longest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rft.learning import trl_learner
from rft.learning.group_trainer import GroupTrainer
from rft.learning.trl_import import GRPOTrainer
from rft.learning.trl_trainer import LeanTrainer
from rft.turns import Author, Turn, trained_tokens
from rft.types import GradedGroup, Rollout, StopReason

pytestmark = pytest.mark.e2e  # real libraries: too slow for a unit test

LENGTHS = (3, 17, 1, 9, 6, 12, 2, 8)
"""Of the completions of a group; the generated tokens do not end with an end-of-sequence token, the last two do."""
REWARDS = ([1.0, 0.0, 0.5, 0.25, None, 1.0, 0.0, 0.0], [0.5] * 8, [0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.75])
"""The second group has nothing to teach."""

Learner = Any


def as_episode(rollout: Rollout) -> Rollout:
    """The completion with one token of an environment."""
    turns = turns_of(len(rollout.completion_ids))
    trained = trained_tokens(turns, len(rollout.completion_ids))
    return replace(rollout, turns=turns, logprobs=tuple(a * b for a, b in zip(rollout.logprobs, trained, strict=True)))


def turns_of(length: int) -> tuple[Turn, ...]:
    """Three turns of a completion of at least three tokens, the second one of the environment; else none."""
    if length < 3:
        return ()
    ends = (1, 2, length)
    return tuple(
        Turn(author=Author.ENVIRONMENT if number == 1 else Author.POLICY, start=start, end=stop)
        for number, (start, stop) in enumerate(zip((0, *ends), ends, strict=False))
    )


class Plain(GRPOTrainer):
    """TRL's trainer as it is with vLLM."""

    def __init__(self, *, learner: Any, ranks: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.use_vllm, self._last_loaded_step = True, -1
        self.vllm_generation = SimpleNamespace(sync_weights=lambda: None)


@pytest.fixture
def batch(
    make_rollout: Callable[..., Any],
    make_group: Callable[..., GradedGroup],
    logprobs: Callable[..., list[tuple[float, ...]]],
) -> Callable[..., list[GradedGroup]]:
    """`batch(learner, seed, are_episodes)`: the groups of a step, with log-probabilities near the learner's."""

    def make(learner: Learner, seed: int, are_episodes: bool) -> list[GradedGroup]:
        random, policy = torch.Generator().manual_seed(seed), learner.publish().policy
        groups = []
        for number, rewards in enumerate(REWARDS):
            group = make_group(rewards, f"t{number}")
            prompt = tuple(torch.randint(10, 90, (3 + 4 * number,), generator=random).tolist())
            completions = [
                tuple(torch.randint(10, 90, (length,), generator=random).tolist()) + ((2,) if index > 5 else ())
                for index, length in enumerate(LENGTHS)
            ]
            rollouts = []
            for index, (ids, scores) in enumerate(
                zip(completions, logprobs(learner, completions, prompt), strict=True)
            ):
                noise = 0.2 * torch.randn(len(ids), generator=random)
                sampled = [a + b for a, b in zip(scores, noise.tolist(), strict=True)]
                rollouts.append(
                    make_rollout(
                        f"t{number}",
                        index,
                        prompt_ids=prompt,
                        completion_ids=ids,
                        logprobs=tuple(sampled),
                        stop=StopReason.STOP if ids[-1] == 2 else StopReason.LENGTH,
                        policy=policy,
                    )
                )
            if are_episodes:
                rollouts = list(map(as_episode, rollouts))
            groups.append(GradedGroup(task=group.task, rollouts=tuple(rollouts), grades=group.grades))
        return groups

    return make


@pytest.fixture
def gradients_of(
    build: Callable[..., Learner],
    batch: Callable[..., list[GradedGroup]],
    keep_gradients: Callable[[Learner], dict[str, torch.Tensor]],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[dict[str, torch.Tensor], dict[str, float]]]:
    """`gradients_of(Plain, size=24, ...)`: gradient and metrics of the second step of this trainer."""

    def run(
        trainer_class: type, size: int, *, are_episodes: bool = False, **options: Any
    ) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        monkeypatch.setattr(trl_learner, "resolve_name", lambda target: trainer_class)
        learner = build(
            f"{trainer_class.__name__} {size}",
            prompts_per_step=3,
            completions_per_prompt=8,
            completions_per_micro_batch=size,
            max_completion_tokens=20,
            learning_rate=1e-3,
            trl={"max_grad_norm": 0.0} | options,
        )
        assert type(learner._stepped.trainer) is trainer_class
        kept = keep_gradients(learner)
        learner.learn(
            batch(learner, 0, are_episodes)
        )  # before the first step one of LoRA's two matrices has no gradient
        # The same start of the second step for all: Adam makes much of the smallest difference.
        with torch.no_grad():
            for name, each in learner._stepped.trainer.model.named_parameters():
                if each.requires_grad:
                    random = torch.Generator().manual_seed(len(name))
                    each.copy_(0.1 * torch.randn(each.shape, generator=random))
        metrics = learner.learn(batch(learner, 1, are_episodes))
        return kept, metrics

    return run


LOSSES = {"sums over tokens": ("dr_grpo", "dapo"), "likewise": ("cispo", "sapo", "vespo", "luspo")}
"""Besides `grpo`, which averages over completions. The trainer hands TRL the same for all; TRL's loss is its own."""


@pytest.mark.parametrize(
    ("loss_type", "micro_batches"),
    [
        ("grpo", (24, 4)),
        *((loss_type, (4,)) for loss_type in LOSSES["sums over tokens"]),
        *(pytest.param(loss_type, (4,), marks=pytest.mark.full) for loss_type in LOSSES["likewise"]),
        *(pytest.param(loss_type, (24,), marks=pytest.mark.full) for losses in LOSSES.values() for loss_type in losses),
    ],
)
def test_the_gradient_is_that_of_trl(
    gradients_of: Callable[..., Any], same_up_to_rounding: Any, loss_type: str, micro_batches: tuple[int, ...]
) -> None:
    options: dict[str, Any] = {"loss_type": loss_type, "vllm_importance_sampling_mode": "token_truncate"}
    if loss_type in ("luspo", "dr_grpo"):
        options["importance_sampling_level"] = "sequence"
    expected, by_trl = gradients_of(Plain, 24, **options)
    for completions_per_micro_batch in micro_batches:
        found, metrics = gradients_of(GroupTrainer, completions_per_micro_batch, **options)
        same_up_to_rounding(found, expected)
        assert metrics["loss"] == pytest.approx(by_trl["loss"], rel=1e-3, abs=1e-5)
        assert metrics["completions/learned_from"] == 15, "8 + 8 + 8, less the equals and the one without reward"
    assert by_trl["sampling/sampling_logp_difference/mean"] > 0.1


@pytest.mark.parametrize(
    "mode",
    [
        "sequence_mask",
        pytest.param("sequence_truncate", marks=pytest.mark.full),
        pytest.param("token_mask", marks=pytest.mark.full),
        "token_truncate",
    ],
)
def test_so_it_is_with_every_correction_for_the_sampler(
    gradients_of: Callable[..., Any], same_up_to_rounding: Any, mode: str
) -> None:
    options = {"vllm_importance_sampling_mode": mode, "vllm_importance_sampling_clip_max": 1.3}
    expected, _ = gradients_of(Plain, 24, **options)
    same_up_to_rounding(gradients_of(GroupTrainer, 8, **options)[0], expected)


@pytest.mark.parametrize(
    "options",
    [
        {"beta": 0.1},
        {"mask_truncated_completions": True, "loss_type": "grpo"},
        {"vllm_importance_sampling_correction": False},
    ],
    ids=str,
)
def test_so_it_is_with_other_options(
    gradients_of: Callable[..., Any], same_up_to_rounding: Any, options: dict[str, Any]
) -> None:
    expected, by_trl = gradients_of(Plain, 24, **options)
    found, metrics = gradients_of(GroupTrainer, 4, **options)
    same_up_to_rounding(found, expected)
    if "beta" in options:
        assert metrics["completions/learned_from"] == 24, "all are held to the base"
        assert metrics["kl"] > 0
        assert by_trl["kl"] > 0
    if "mask_truncated_completions" in options:
        assert (metrics["completions/masked"], metrics["completions/learned_from"]) == (18, 4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"loss_type": "grpo", "vllm_importance_sampling_mode": "token_truncate"}, marks=pytest.mark.full),
        {"loss_type": "dr_grpo", "importance_sampling_level": "sequence"},
        {"loss_type": "dapo", "beta": 0.1},
        pytest.param({"vllm_importance_sampling_mode": "sequence_truncate"}, marks=pytest.mark.full),
    ],
    ids=str,
)
def test_so_it_is_with_episodes(
    gradients_of: Callable[..., Any], same_up_to_rounding: Any, options: dict[str, Any]
) -> None:
    """TRL's `env_mask` leaves out of the loss what the policy did not sample."""
    expected, by_trl = gradients_of(Plain, 24, are_episodes=True, **options)
    found, metrics = gradients_of(GroupTrainer, 4, are_episodes=True, **options)
    same_up_to_rounding(found, expected)
    assert metrics["loss"] == pytest.approx(by_trl["loss"], rel=1e-3, abs=1e-5)
    for name in ("completions/mean_length", "completions/max_length"):
        assert metrics[name] == pytest.approx(by_trl[name], rel=1e-4)


def test_all_numbers_about_the_sampler_are_those_of_trl(gradients_of: Callable[..., Any]) -> None:
    # With beta every completion goes through the model, so both count the same tokens.
    options = {"beta": 0.1, "vllm_importance_sampling_mode": "token_truncate"}
    _, by_trl = gradients_of(Plain, 24, **options)
    _, metrics = gradients_of(GroupTrainer, 4, **options)
    names = [name for name in by_trl if name.startswith("sampling/")]
    assert len(names) == 5
    assert {name: metrics[name] for name in names} == pytest.approx({name: by_trl[name] for name in names}, rel=1e-4)


@pytest.mark.parametrize("options", [{"loss_type": "bnpo"}, {"entropy_coef": 0.1}], ids=str)
def test_where_neighbours_matter_they_stay_together(
    gradients_of: Callable[..., Any], same_up_to_rounding: Any, options: dict[str, Any]
) -> None:
    expected, _ = gradients_of(Plain, 24, **options)
    found, metrics = gradients_of(GroupTrainer, 24, **options)
    same_up_to_rounding(found, expected)
    assert metrics["completions/learned_from"] == 24


def test_one_forward_pass_over_what_teaches(gradients_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    original = LeanTrainer._get_per_token_logps_and_entropies

    def counted(self: LeanTrainer, model: Any, input_ids: torch.Tensor, *rest: Any, **options: Any) -> Any:
        shapes.append(tuple(input_ids.shape))
        return original(self, model, input_ids, *rest, **options)

    monkeypatch.setattr(GroupTrainer, "_get_per_token_logps_and_entropies", counted)
    gradients_of(GroupTrainer, 4)
    second = shapes[len(shapes) // 2 :]
    assert sum(rows for rows, _ in second) == 15, f"TRL changed: forward passes of {second}"
    # TRL pads all 24 to 11 + 17 tokens, twice.
    assert sum(rows * width for rows, width in second) < 24 * 28 / 2


@pytest.mark.parametrize("trainer_class", [GroupTrainer, Plain])
def test_a_step_with_nothing_to_teach_moves_only_by_momentum(
    build: Callable[..., Learner],
    group_for: Callable[..., GradedGroup],
    monkeypatch: pytest.MonkeyPatch,
    trainer_class: type,
) -> None:
    monkeypatch.setattr(trl_learner, "resolve_name", lambda target: trainer_class)
    learner = build(completions_per_micro_batch=2)
    learner.learn([group_for(learner, [1.0, 0.0, 0.0, 0.0])])
    trained = [each for each in learner._stepped.trainer.model.parameters() if each.requires_grad]
    optimizer = learner._stepped.trainer.optimizer
    rate, (beta1, beta2) = optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"]
    before = [(each.detach().clone(), optimizer.state[each]["exp_avg"].clone()) for each in trained]
    squares = [optimizer.state[each]["exp_avg_sq"].clone() for each in trained]
    metrics = learner.learn([group_for(learner, [0.5] * 4)])
    assert metrics["grad_norm"] == 0.0
    moved = 0.0
    for each, (weight, momentum), square in zip(trained, before, squares, strict=True):
        # Adam's second step with a gradient of 0 (Kingma and Ba, 2015, algorithm 1); no weight decay.
        mean, variance = beta1 * momentum / (1 - beta1**2), beta2 * square / (1 - beta2**2)
        expected = weight - rate * mean / (variance.sqrt() + 1e-8)
        torch.testing.assert_close(each.detach(), expected, rtol=1e-5, atol=1e-4 * rate)
        moved = max(moved, (expected - weight).abs().max().item())
    assert moved > 0.1 * rate
