"""What rft/learning/trl_seam.py relies on inside TRL, tried on the real trainer with a tiny model.

When one of these fails after an update of TRL, the message begins with "TRL changed:" and says what.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rft.errors import LearnError
from rft.learning.trl_learner import TrlLearner
from rft.learning.trl_seam import SteppedTrainer
from rft.run_folder.find_checkpoint import last_checkpoint
from rft.types import GradedGroup

pytestmark = pytest.mark.e2e  # real libraries or real limits: too slow for a unit test

COMPLETIONS = ((20, 21, 22, 2), (30, 31, 32, 2), (40, 41, 2), (50, 51, 52, 53))
"""Those of tests/learning/conftest.py."""

Build = Callable[..., TrlLearner]
GroupFor = Callable[..., GradedGroup]


def test_rollout_func_is_called_once_for_each_optimizer_step(
    build: Build, group_for: GroupFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    original = SteppedTrainer._rollouts

    def counted(self: SteppedTrainer, prompts: list[str], trainer: Any) -> dict[str, list[Any]]:
        calls.append(len(prompts))
        return original(self, prompts, trainer)

    monkeypatch.setattr(SteppedTrainer, "_rollouts", counted)
    # Two groups and two micro-batches a step: still one call, with all of the step's completions.
    learner = build(prompts_per_step=2, completions_per_micro_batch=4, steps=3)
    for step in range(1, 4):
        assert calls == [8] * step, f"TRL changed: rollout_func was called with {calls} before step {step}"
        group = group_for(learner, [1.0, 0.0, 0.0, 0.0])
        learner.learn([group, group])
        assert learner.steps_done == step
    assert calls == [8] * 3, f"TRL changed: rollout_func was called with {calls} in 3 steps"


def test_the_rewards_and_tokens_arrive_row_by_row(build: Build, group_for: GroupFor) -> None:
    learner = build()
    learner.learn([group_for(learner, [1.0, None, 0.0, 0.5])])
    logs = learner._stepped.trainer._logs
    rewards = list(logs["rewards"]["graded"])
    assert [None if math.isnan(reward) else reward for reward in rewards] == [1.0, None, 0.0, 0.5], (
        f"TRL changed: further keys of rollout_func do not reach the reward function as a column: {rewards}"
    )


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        # (reward - mean) / (standard deviation + 1e-4), with n - 1 in the deviation: mean 0.25, deviation 0.5
        ([1.0, 0.0, 0.0, 0.0], [0.75 / 0.5001, -0.25 / 0.5001, -0.25 / 0.5001, -0.25 / 0.5001]),
        # Without the one that has none: mean 1/3, deviation sqrt(1/3)
        ([1.0, None, 0.0, 0.0], [2 / 3 / 0.5774503, 0.0, -1 / 3 / 0.5774503, -1 / 3 / 0.5774503]),
        ([0.5, 0.5, 0.5, 0.5], [0.0] * 4),
        ([None, None, None, None], [0.0] * 4),
        ([1.0, None, None, None], [0.0] * 4),
    ],
)
def test_advantages_by_hand(
    build: Build, group_for: GroupFor, rewards: list[float | None], expected: list[float]
) -> None:
    learner = build()
    metrics = learner.learn([group_for(learner, rewards)])
    advantages = list(learner._stepped.trainer._logs["advantages"])
    assert advantages == pytest.approx(expected, abs=1e-4), (
        f"TRL changed: rewards {rewards} give the advantages {advantages}, not {expected}"
    )
    if not any(expected):
        before = build("fresh").publish().policy.fingerprint
        assert learner.publish().policy.fingerprint == before, (
            "TRL changed: a step without advantages moves the weights"
        )
        assert metrics["grad_norm"] == 0.0


def test_a_completion_without_a_reward_moves_nothing(
    build: Build, group_for: GroupFor, keep_gradients: Any, same_up_to_rounding: Any
) -> None:
    others = (COMPLETIONS[0], (60, 61, 62, 63), *COMPLETIONS[2:])
    gradients = {}
    for name, rewards, completions in [
        ("without", [1.0, None, 0.0, 0.0], COMPLETIONS),
        ("other without", [1.0, None, 0.0, 0.0], others),
        ("with", [1.0, 0.0, 0.0, 0.0], COMPLETIONS),
        ("other with", [1.0, 0.0, 0.0, 0.0], others),
    ]:
        learner = build(name)
        gradients[name] = keep_gradients(learner)
        learner.learn([group_for(learner, rewards, completions)])
    same_up_to_rounding(gradients["without"], gradients["other without"])
    with pytest.raises(AssertionError):
        same_up_to_rounding(gradients["with"], gradients["other with"])


def test_a_step_makes_the_rewarded_completion_likelier(
    build: Build, group_for: GroupFor, logprobs: Callable[..., list[tuple[float, ...]]]
) -> None:
    learner = build(learning_rate=1e-3)
    before = list(map(sum, logprobs(learner, COMPLETIONS)))
    learner.learn([group_for(learner, [0.0, 0.0, 1.0, 0.0])])
    after = list(map(sum, logprobs(learner, COMPLETIONS)))
    changes = [new - old for new, old in zip(after, before, strict=True)]
    # B starts at zero, so Adam's first step moves only B; here all tokens differ, so each moves its own way.
    assert changes[2] > 0.01
    assert changes[2] == max(changes)


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({}, [1e-2] * 4),
        ({"warmup_steps": 3}, [0.0, 1e-2 / 3, 2e-2 / 3, 1e-2]),
        ({"warmup_steps": 0.5}, [0.0, 0.5e-2, 1e-2, 1e-2]),
        ({"warmup_steps": 1, "lr_scheduler_type": "linear"}, [0.0, 1e-2, 2e-2 / 3, 1e-2 / 3]),
    ],
    ids=str,
)
def test_the_learning_rate_warms_up(
    build: Build, group_for: GroupFor, options: dict[str, Any], rates: list[float]
) -> None:
    learner = build(trl=options)
    logged = [learner.learn([group_for(learner, [1.0, 0.0, 0.0, 0.0])])["learning_rate"] for _ in rates]
    assert logged == pytest.approx(rates, rel=1e-6, abs=1e-12)


def test_what_was_cut_is_masked_whatever_its_last_token_is(build: Build, group_for: GroupFor) -> None:
    pad = 1
    completions = (COMPLETIONS[0], (30, 31, pad), (40, 41, 2), (50, 51, 52, 53))
    metrics = {}
    for masks in (True, False):
        learner = build(str(masks), mask_truncated=masks)
        metrics[masks] = learner.learn([group_for(learner, [1.0, 0.0, 0.25, 0.5], completions)])
    assert (metrics[True]["completions/masked"], metrics[False]["completions/masked"]) == (2, 0)
    assert metrics[True]["completions/clipped_ratio"] == metrics[False]["completions/clipped_ratio"] == 0.5
    assert metrics[True]["completions/mean_terminated_length"] == 3.5
    # The mean over the tokens that are left, 4 and 3, of the advantages.
    scale = (0.5625**2 + 0.4375**2 + 0.1875**2 + 0.0625**2) / 3
    first, third = (0.5625 / (scale**0.5 + 1e-4), -0.1875 / (scale**0.5 + 1e-4))
    assert metrics[True]["loss"] == pytest.approx(-(4 * first + 3 * third) / 7, abs=2e-5)


def test_micro_batches_do_not_change_the_step(
    build: Build, group_for: GroupFor, keep_gradients: Any, same_up_to_rounding: Any
) -> None:
    gradients = []
    for size in (4, 2):
        learner = build(f"size {size}", completions_per_micro_batch=size)
        gradients.append(keep_gradients(learner))
        learner.learn([group_for(learner, [1.0, 0.0, 0.0, 0.5])])
    same_up_to_rounding(*gradients)


def test_the_difference_between_sampler_and_learner_is_corrected_for(build: Build, group_for: GroupFor) -> None:
    learner = build()
    own = learner.learn([group_for(learner, [1.0, 0.0, 0.0, 0.0])])
    names = [f"sampling/importance_sampling_ratio/{name}" for name in ("min", "mean", "max")]
    missing = [name for name in names if name not in own]
    assert not missing, f"TRL changed: with use_vllm it logs no {missing}; there are {sorted(own)}"
    ratios = [own[name] for name in names]
    assert ratios == pytest.approx([1.0] * 3, abs=1e-3), f"TRL changed: the learner's own log-probs give {ratios}"
    # A sampler that finds each token e^0.1 times as likely: the ratio of 4 tokens is e^-0.4, of 3 tokens e^-0.3.
    other = learner.learn([group_for(learner, [1.0, 0.0, 0.0, 0.0], off=0.1)])
    assert other[names[0]] < 1 - 0.09, "TRL changed: the sampler's log-probabilities are not used"
    assert other["sampling/sampling_logp_difference/mean"] == pytest.approx(0.1, abs=1e-3)


def test_a_resumed_run_takes_the_same_steps(
    build: Build, group_for: GroupFor, tmp_path: Path, keep_gradients: Any, same_up_to_rounding: Any
) -> None:
    whole = build()
    first = group_for(whole, [1.0, 0.0, 0.0, 0.0])
    whole.learn([first])
    second = group_for(whole, [0.0, 1.0, 0.0, 0.5])
    whole.learn([second])
    whole.save()
    saved = whole.publish()
    (tmp_path / "run" / "config.yaml").touch()
    checkpoint, step = last_checkpoint(tmp_path / "run")
    assert (checkpoint.name, step) == ("checkpoint-2", 2), "TRL changed: _save_checkpoint writes another folder"
    assert (checkpoint / "optimizer.pt").exists(), "TRL changed: _save_checkpoint writes no optimizer"

    resumed = build(resume_from=checkpoint)
    assert resumed.steps_done == 2
    assert resumed.publish() == saved
    states = [learner._stepped.trainer.optimizer.state_dict() for learner in (whole, resumed)]
    assert states[1]["param_groups"] == states[0]["param_groups"], "TRL changed: the learning rate was not restored"
    for number, state in states[0]["state"].items():
        for name, tensor in state.items():
            assert torch.equal(states[1]["state"][number][name], tensor), f"TRL changed: Adam's {name} was not restored"
    gradients = [keep_gradients(learner) for learner in (whole, resumed)]
    third = group_for(whole, [1.0, 0.0, 0.5, 0.0])
    expected, got = whole.learn([third]), resumed.learn([third])
    assert resumed.steps_done == 3
    assert got == pytest.approx(expected, rel=1e-4, abs=1e-4)
    same_up_to_rounding(*gradients)


def test_old_checkpoints_are_removed(build: Build, group_for: GroupFor, tmp_path: Path) -> None:
    learner = build(keep_checkpoints=2)
    for _ in range(3):
        learner.learn([group_for(learner, [1.0, 0.0, 0.0, 0.0])])
        learner.save()
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("checkpoint-*"))
    assert names == ["checkpoint-2", "checkpoint-3"]
    state = json.loads((tmp_path / "run" / "checkpoints" / "checkpoint-3" / "trainer_state.json").read_text())
    assert state["log_history"] == [], "it would grow with every step, and stand in every checkpoint"


def test_a_checkpoint_that_a_killed_process_left_unfinished_is_replaced(
    build: Build, group_for: GroupFor, tmp_path: Path
) -> None:
    learner = build()
    learner.learn([group_for(learner, [1.0, 0.0, 0.0, 0.0])])
    checkpoint = tmp_path / "run" / "checkpoints" / "checkpoint-1"
    (checkpoint / "published").mkdir(parents=True)
    (checkpoint / "published" / "publications.json").write_text("[{")
    learner.save()
    assert build(resume_from=checkpoint).publish() == learner.publish()


def test_a_run_can_be_prolonged_from_its_last_checkpoint(build: Build, group_for: GroupFor, tmp_path: Path) -> None:
    learner = build(steps=1)
    learner.learn([group_for(learner, [1.0, 0.0, 0.0, 0.0])])
    learner.save()
    checkpoint = tmp_path / "run" / "checkpoints" / "checkpoint-1"
    longer = build(steps=2, resume_from=checkpoint)
    assert longer.steps_done == 1
    longer.learn([group_for(longer, [1.0, 0.0, 0.0, 0.0])])
    assert longer.steps_done == 2
    # One that has no step left still publishes.
    done = build(steps=1, resume_from=checkpoint)
    assert done.publish() == learner.publish()


def test_no_step_beyond_the_last(build: Build, group_for: GroupFor) -> None:
    learner = build(steps=1)
    group = group_for(learner, [1.0, 0.0, 0.0, 0.0])
    learner.learn([group])
    assert learner.steps_done == 1
    group = group_for(learner, [1.0, 0.0, 0.0, 0.0])
    with pytest.raises(LearnError, match="TRL has taken all 1 steps; it takes no more groups"):
        learner.learn([group])


def test_a_failure_inside_the_trainer_comes_out(build: Build, group_for: GroupFor) -> None:
    learner = build()
    group = group_for(learner, [1.0, 0.0, 0.0, 0.0])
    with pytest.raises(LearnError, match="TRL needs 4 completions for a step but received 8"):
        learner.learn([group, group])
    # And the next one does not wait for an answer that never comes.
    with pytest.raises(LearnError, match="TRL's trainer has ended; it takes no more groups"):
        learner.learn([group])


def test_an_error_of_torch_comes_out(build: Build, make_group: Callable[..., GradedGroup]) -> None:
    learner = build()
    with pytest.raises(LearnError, match=r"TRL's trainer failed: IndexError: index out of range"):
        learner.learn([make_group([1.0, 0.0, 0.0, 0.0], completion_ids=(5, 10**6))])


def test_a_model_without_a_chat_template_learns(
    build: Build, group_for: GroupFor, tiny_model: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(tiny_model, bare)
    (bare / "chat_template.jinja").unlink()
    learner = build(model=bare)
    before = learner.publish().policy
    learner.learn([group_for(learner, [1.0, 0.0, 0.0, 0.0])])
    assert learner.publish().policy.fingerprint != before.fingerprint


def test_an_option_that_trl_refuses_is_named(build: Build) -> None:
    with pytest.raises(LearnError, match=r"TRL refuses learner.trl: .*'no_such_option'"):
        build(trl={"no_such_option": 1})


def test_closing_early_ends_the_thread(build: Build, group_for: GroupFor) -> None:
    learner = build()
    learner.learn([group_for(learner, [1.0, 0.0, 0.0, 0.0])])
    learner.close()
    learner.close()
    assert not learner._stepped._thread.is_alive()
