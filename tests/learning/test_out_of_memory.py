"""The memory of a learner: halves of micro-batches, checkpointed activations, and precision."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from rft.errors import LearnError
from rft.learning.ranks import Ranks
from rft.learning.trl_learner import TrlLearner, _arguments
from rft.learning.trl_trainer import LeanTrainer

pytestmark = pytest.mark.e2e  # real libraries: too slow for a unit test

Learner = Any
KEYS: dict[str, Any] = {
    "prompts_per_step": 2,
    "completions_per_micro_batch": 4,
    "learning_rate": 0.01,
    "trl": {"optim": "sgd", "max_grad_norm": 0.0},
}
REWARDS = ([1.0, 0.0, 0.5, 0.25], [0.0, 1.0, 1.0, 0.0])


@pytest.fixture
def limit_rows(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """`limit_rows(2)`: a pass over more rows runs out of memory after its backward pass; returns the rows of passes."""

    def limit(most: int) -> list[int]:
        passes: list[int] = []
        whole = LeanTrainer._loss_of

        def limited(self: LeanTrainer, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
            rows = len(inputs["prompt_ids"])
            passes.append(rows)
            loss = whole(self, model, inputs)
            if rows > most:
                loss.backward()
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return loss

        monkeypatch.setattr(LeanTrainer, "_loss_of", limited)
        return passes

    return limit


def learn(learner: Learner, group_for: Callable[..., Any], steps: int = 2) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for _ in range(steps):
        metrics = learner.learn([group_for(learner, rewards, off=0.1) for rewards in REWARDS])
    return metrics


@pytest.mark.parametrize(
    "keys",
    [
        {"loss_type": "grpo"},
        {"loss_type": "dapo", "epochs": 2},
        {"kind": "gmpo"},
    ],
    ids=str,
)
def test_the_step_is_repeated_with_halves(
    build: Callable[..., Learner],
    group_for: Callable[..., Any],
    keep_gradients: Callable[[Learner], dict[str, torch.Tensor]],
    same_up_to_rounding: Callable[..., None],
    limit_rows: Callable[[int], list[int]],
    keys: dict[str, Any],
) -> None:
    steps = 2 // keys.get("epochs", 1)  # the gradient of the second optimizer step
    learner = build("whole", **KEYS | keys)
    expected = keep_gradients(learner)
    of_whole = learn(learner, group_for, steps)
    assert "micro_batch_parts" not in of_whole

    passes = limit_rows(2)
    learner = build("halves", **KEYS | keys)
    kept = keep_gradients(learner)
    metrics = learn(learner, group_for, steps)
    same_up_to_rounding(kept, expected)
    assert metrics.pop("micro_batch_parts") == 2
    assert metrics.keys() == of_whole.keys()
    assert metrics["loss"] == pytest.approx(of_whole["loss"], rel=1e-4, abs=1e-6)
    assert passes[0] == 4
    assert set(passes[1:]) == {2}, "only the first pass was too large"


def test_the_failed_pass_is_freed_before_the_repeat(
    build: Callable[..., Learner], group_for: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = LeanTrainer._loss_of
    failed: list[weakref.ref[torch.Tensor]] = []
    kept: list[bool] = []

    def limited(self: LeanTrainer, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        kept.extend(loss() is not None for loss in failed)
        loss = whole(self, model, inputs)
        if len(inputs["prompt_ids"]) > 2:
            failed.append(weakref.ref(loss))
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return loss

    monkeypatch.setattr(LeanTrainer, "_loss_of", limited)
    learn(build(**KEYS), group_for, steps=1)
    assert kept == [False] * 4, "two micro-batches of two parts each"


def test_a_later_epoch_keeps_the_probabilities_of_the_first(
    build: Callable[..., Learner],
    group_for: Callable[..., Any],
    keep_gradients: Callable[[Learner], dict[str, torch.Tensor]],
    same_up_to_rounding: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = KEYS | {"loss_type": "grpo", "epochs": 2, "clip": 0.01}
    learner = build("whole", **keys)
    expected = keep_gradients(learner)
    of_whole = learn(learner, group_for, steps=1)

    whole, calls = LeanTrainer._loss_of, iter(range(100))

    def fails_once(self: LeanTrainer, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        loss = whole(self, model, inputs)
        if next(calls) == 3:  # the second micro-batch of the second epoch
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return loss

    monkeypatch.setattr(LeanTrainer, "_loss_of", fails_once)
    learner = build("halves", **keys)
    kept = keep_gradients(learner)
    metrics = learn(learner, group_for, steps=1)
    same_up_to_rounding(kept, expected)
    assert metrics["clip_ratio/region_mean"] == pytest.approx(of_whole["clip_ratio/region_mean"]) != 0


def test_too_little_memory_for_halves(
    build: Callable[..., Learner], group_for: Callable[..., Any], limit_rows: Callable[[int], list[int]]
) -> None:
    limit_rows(1)
    learner = build(**KEYS)
    with pytest.raises(LearnError) as caught:
        learn(learner, group_for)
    assert str(caught.value) == (
        "the learner has too little memory for 2 completions in one pass (CUDA out of memory. Tried to allocate "
        "2.00 GiB); use learner.completions_per_micro_batch=1, learner.trl.gradient_checkpointing=true, or a lower "
        "sampler.max_completion_tokens"
    )


def test_a_loss_that_depends_on_the_division_is_not_halved(
    build: Callable[..., Learner], group_for: Callable[..., Any], limit_rows: Callable[[int], list[int]]
) -> None:
    limit_rows(2)
    learner = build(**KEYS | {"loss_type": "bnpo"})
    with pytest.raises(LearnError, match="too little memory for 4 completions in one pass"):
        learn(learner, group_for)


def test_a_resumed_learner_starts_with_halves(
    build: Callable[..., Learner], group_for: Callable[..., Any], limit_rows: Callable[[int], list[int]]
) -> None:
    passes = limit_rows(2)
    learner = build("first", **KEYS)
    learn(learner, group_for, steps=1)
    learner.save()
    [checkpoint] = (learner._spec.run_folder / "checkpoints").glob("checkpoint-*")
    passes.clear()
    resumed = build("second", **KEYS, resume_from=checkpoint)
    learn(resumed, group_for, steps=1)
    assert set(passes) == {2}


def test_halves_of_one_rank_are_halves_of_all(
    make_learner_spec: Callable[..., Any],
    tiny_model: Path,
    tmp_path: Path,
    group_for: Callable[..., Any],
    limit_rows: Callable[[int], list[int]],
) -> None:
    class FakeRanks(Ranks):
        """The first of two ranks; the other one halves its micro-batches in the first step."""

        def add_up(self, tensors: Sequence[torch.Tensor], *, value: int = 0) -> int:
            return max(value, 2)

    passes = limit_rows(4)
    spec = make_learner_spec(tmp_path, "grpo", model=tiny_model, completions_per_prompt=4, **KEYS)
    learner = TrlLearner(spec, FakeRanks(of=2))
    metrics = learn(learner, group_for, steps=1)
    assert (passes, metrics["micro_batch_parts"]) == ([4], 2)
    learn(learner, group_for, steps=1)
    assert passes[1:] == [2, 2]
    learner.save()
    [checkpoint] = (tmp_path / "checkpoints").glob("checkpoint-*")
    assert json.loads((checkpoint / "micro_batch_parts.json").read_text()) == {"micro_batch_parts": 2}
    learner.close()


def test_checkpointed_activations_give_the_same_gradient(
    build: Callable[..., Learner],
    group_for: Callable[..., Any],
    keep_gradients: Callable[[Learner], dict[str, torch.Tensor]],
    same_up_to_rounding: Callable[..., None],
) -> None:
    kept = []
    for folder, checkpointing in (("kept", False), ("again", True)):
        learner = build(folder, gradient_checkpointing=checkpointing, **KEYS)
        kept.append(keep_gradients(learner))
        learn(learner, group_for)
        assert learner._stepped.trainer.model.is_gradient_checkpointing is checkpointing
    same_up_to_rounding(*kept)


@pytest.mark.parametrize(("dtype", "expected"), [("float16", (True, False)), ("bfloat16", (False, True))])
def test_float16_scales_the_loss(
    make_learner_spec: Callable[..., Any], tmp_path: Path, dtype: str, expected: tuple[bool, bool]
) -> None:
    spec = make_learner_spec(tmp_path, "grpo", on_gpu=True, dtype=dtype)
    arguments = _arguments(spec, spec.run.learner)
    assert (arguments["fp16"], arguments["bf16"]) == expected


def test_a_step_that_float16_skips_is_counted(build: Callable[..., Learner], monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = build()._stepped.trainer
    trainer.args.fp16 = True
    monkeypatch.setattr(type(trainer.accelerator), "optimizer_step_was_skipped", True)
    trainer.log({"loss": 0.5})
    assert trainer.state.log_history[-1]["skipped_step"] == 1.0
