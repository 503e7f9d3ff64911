"""The seam with TRL's GRPOTrainer: hands it rft's graded groups.

This file, trainer_thread.py, trl_import.py and the trainers contain all that rft knows about the inside of TRL's
trainers. TRL calls `rollout_func` for completions, and its thread waits there for the groups of rft's loop.

Assumptions about TRL 1.16 (a test fails if one of them changes):
- TRL calls `rollout_func(prompts, trainer)` once for each optimizer step if `steps_per_generation` equals
  `gradient_accumulation_steps`, and passes its further keys to the reward functions as columns;
- TRL excludes a reward of None from the group's baseline and gives it an advantage of 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from datasets import Dataset
from peft import PeftConfig

from rft.errors import LearnError
from rft.learning.trainer_thread import TrainerThread
from rft.learning.trl_import import GRPOConfig, GRPOTrainer
from rft.turns import Author
from rft.types import Grade, GradedGroup, Rollout, StopReason


class SteppedTrainer(TrainerThread[Sequence[GradedGroup]]):
    """GRPOTrainer, one batch of graded groups at a time.

    Args:
        model: The base model, or the model with the adapter to train further.
        tokenizer: The model's tokenizer.
        config: TRL's configuration, with `max_steps` and the batch sizes.
        adapter: The adapter to add and train; None trains the weights of the model, or its adapter.
        timeout_s: Deadline for the start of the trainer and for each step, seconds.
        trainer_class: GRPOTrainer or a subclass.
    """

    def __init__(
        self,
        *,
        model: Any,
        tokenizer: Any,
        config: GRPOConfig,
        adapter: PeftConfig | None,
        timeout_s: float,
        trainer_class: Callable[..., GRPOTrainer],
    ) -> None:
        super().__init__(timeout_s=timeout_s, steps_per_batch=config.num_iterations)
        prompts_per_step = config.generation_batch_size // config.num_generations
        self.use(
            trainer_class(
                model=model,
                args=config,
                processing_class=tokenizer,
                peft_config=adapter,
                reward_funcs=_graded,
                rollout_func=self._rollouts,
                # TRL iterates over rows of a dataset, while rft's loop chooses the tasks.
                train_dataset=Dataset.from_dict({"prompt": [""] * (config.max_steps * prompts_per_step)}),
            )
        )

    def _rollouts(self, prompts: list[str], trainer: GRPOTrainer) -> dict[str, list[Any]]:
        """Return the next groups as columns. TRL calls this for completions."""
        groups = self.next_batch()
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        if len(rollouts) != len(prompts):
            raise LearnError(f"TRL needs {len(prompts)} completions for a step but received {len(rollouts)}")
        columns: dict[str, list[Any]] = {
            "prompt_ids": [list(rollout.prompt_ids) for rollout in rollouts],
            "completion_ids": [list(rollout.completion_ids) for rollout in rollouts],
            "logprobs": [list(rollout.logprobs) for rollout in rollouts],
            "reward": [reward for group in groups for reward in group.rewards],
            "truncated": [rollout.stop is not StopReason.STOP for rollout in rollouts],
        }
        if any(rollout.turns for rollout in rollouts):
            columns["env_mask"] = [list(map(int, rollout.trained)) for rollout in rollouts]
        columns["turn_rewards"] = [
            _by_turn(rollout, grade)
            for group in groups
            for rollout, grade in zip(group.rollouts, group.grades, strict=True)
        ]
        if any(group.teacher_logprobs for group in groups):
            columns["teacher_logprobs"] = [logprobs for group in groups for logprobs in group.teacher_logprobs]
        if any(group.teacher_top for group in groups):
            columns["teacher_top"] = [top for group in groups for top in group.teacher_top]
        return columns


def _by_turn(rollout: Rollout, grade: Grade) -> list[tuple[int, float]]:
    """Return the end and the reward of each turn of the policy; one turn if the completion has none of its own.

    A turn without a token adds its reward to the turn before it, or else to the one after it.
    """
    turns = [turn for turn in rollout.turns if turn.author is Author.POLICY]
    whole = 0.0 if grade.reward is None else grade.reward
    if not sum(turn.end - turn.start for turn in turns):
        return [(len(rollout.completion_ids), whole)]
    found: list[tuple[int, float]] = []
    carried = 0.0
    for turn, reward in zip(turns, grade.turn_rewards or (*[0.0] * (len(turns) - 1), whole), strict=True):
        if turn.end > turn.start:
            found.append((turn.end, reward + carried))
            carried = 0.0
        elif found:
            found[-1] = found[-1][0], found[-1][1] + reward
        else:
            carried += reward
    return found


def _graded(prompts: list[str], completions: list[str], reward: list[float | None], **_: Any) -> list[float | None]:
    """Return the rewards that TRL passes as a column: the reward function for TRL."""
    return reward


_graded.__name__ = "graded"
