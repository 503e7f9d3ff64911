"""The seam with TRL. This file, trl_import.py and the trainers contain all that rft knows about `GRPOTrainer`'s inside.

TRL's trainer has its own loop, which calls `rollout_func` for completions. rft runs the trainer in a thread, and the
thread waits inside `rollout_func` for the groups of rft's loop. Both loops stay intact, and the trainer's optimizer,
scheduler, precision and checkpoints work as documented by TRL.

Assumptions about TRL 1.16 (a test fails if one of them changes):
- TRL calls `rollout_func(prompts, trainer)` once for each optimizer step if `steps_per_generation` equals
  `gradient_accumulation_steps`, and passes its further keys to the reward functions as columns;
- TRL excludes a reward of None from the group's baseline and gives it an advantage of 0;
- `trainer._save_checkpoint(model, trial)` writes a checkpoint, and `trainer._load_rng_state(checkpoint)` restores its
  random state;
- TRL calls `trainer.callback_handler.callbacks` in the order of the list.
"""

from __future__ import annotations

import queue
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback

from rft.errors import LearnerLost, LearnError
from rft.learning.trl_import import GRPOConfig, GRPOTrainer
from rft.types import GradedGroup, StopReason


class _Stop(Exception):
    """Ends the trainer's thread."""


class _HoldAtEnd(TrainerCallback):  # type: ignore[misc]  # TRL and Transformers are not followed
    """Calls `hold` when training ends."""

    def __init__(self, hold: Callable[[], None]) -> None:
        self._hold = hold

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Call `hold`."""
        self._hold()


class SteppedTrainer:
    """TRL's trainer, one optimizer step at a time.

    Args:
        model: The base model.
        tokenizer: The model's tokenizer.
        config: TRL's configuration, with `max_steps` and the batch sizes.
        lora: The adapter to train; None trains all weights of the model.
        timeout_s: Deadline for the start of the trainer and for each step, seconds.
        trainer_class: GRPOTrainer or a subclass.
    """

    def __init__(
        self,
        *,
        model: Any,
        tokenizer: Any,
        config: GRPOConfig,
        lora: LoraConfig | None,
        timeout_s: float,
        trainer_class: Callable[..., GRPOTrainer],
    ) -> None:
        self._batches: queue.Queue[Sequence[GradedGroup] | None] = queue.Queue()
        self._idle: queue.Queue[BaseException | None] = queue.Queue()
        self._timeout_s = timeout_s
        self._closing = False
        self._has_ended = False
        self._epochs: int = config.num_iterations
        prompts_per_step = config.generation_batch_size // config.num_generations
        self.trainer = trainer_class(
            model=model,
            args=config,
            processing_class=tokenizer,
            peft_config=lora,
            reward_funcs=_graded,
            rollout_func=self._rollouts,
            # TRL iterates over rows of a dataset, while rft's loop chooses the tasks.
            train_dataset=Dataset.from_dict({"prompt": [""] * (config.max_steps * prompts_per_step)}),
        )
        # TRL must not end its training before `close`, since rft writes checkpoints after the last step.
        self.trainer.callback_handler.callbacks.insert(0, _HoldAtEnd(self._hold))
        self._thread: threading.Thread | None = None

    def start(self, resume_from: Path | None) -> None:
        """Start the trainer's thread, and wait for its first step.

        Args:
            resume_from: Checkpoint to resume from, or None.
        """
        self._thread = threading.Thread(target=self._train, args=(resume_from,), name="trl-trainer", daemon=True)
        self._thread.start()
        self._wait_until_idle("TRL's trainer to start")
        if resume_from is not None:  # Transformers restores it only at the beginning of an epoch
            self.trainer._load_rng_state(str(resume_from))

    @property
    def steps_done(self) -> int:
        """Number of learned batches, each with `num_iterations` optimizer steps."""
        return int(self.trainer.state.global_step) // self._epochs

    def step(self, groups: Sequence[GradedGroup]) -> dict[str, float]:
        """Take the optimizer steps of one batch and return TRL's metrics.

        Raises:
            LearnError: The trainer failed, now or earlier, or took another number of steps.
        """
        if self._has_ended:
            raise LearnError("TRL's trainer has ended; it takes no more groups")
        before = self.steps_done
        self._batches.put(groups)
        self._wait_until_idle(f"optimizer step {before + 1}")
        if self.steps_done != before + 1:
            taken = self.trainer.state.global_step - before * self._epochs
            raise LearnError(f"TRL took {taken} optimizer steps on one batch, not {self._epochs}")
        history = self.trainer.state.log_history
        numbers = _numbers(history, after=before * self._epochs)
        history.clear()  # metrics.jsonl keeps the numbers; every checkpoint would hold them all again
        return numbers

    def save(self) -> Path:
        """Write a checkpoint and return its folder. The trainer's thread waits meanwhile."""
        folder = Path(self.trainer.args.output_dir) / f"checkpoint-{self.trainer.state.global_step}"
        self.trainer._save_checkpoint(self.trainer.model, trial=None)
        for filler in (folder.parent, folder):  # model cards of TRL and PEFT without information about the run
            (filler / "README.md").unlink(missing_ok=True)
        # TRL's frozen copy of the adapter that the run started from. Transformers would restore it instead of the
        # trained adapter; the learner has it from the start.
        shutil.rmtree(folder / "ref", ignore_errors=True)
        return folder

    def close(self) -> None:
        """End the trainer's thread."""
        self._closing = self._has_ended = True
        if self._thread is not None and self._thread.is_alive():
            self._batches.put(None)
            self._thread.join(timeout=self._timeout_s)

    def _wait_until_idle(self, what: str) -> None:
        try:
            failure = self._idle.get(timeout=self._timeout_s)
        except queue.Empty:
            raise LearnerLost(f"timed out after {self._timeout_s:g} s waiting for {what}") from None
        if isinstance(failure, LearnError):
            raise failure
        if failure is not None:
            raise LearnError(f"TRL's trainer failed: {type(failure).__name__}: {failure}") from failure

    def _train(self, resume_from: Path | None) -> None:
        try:
            self.trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
        except _Stop:
            self.trainer.callback_handler.on_train_end(self.trainer.args, self.trainer.state, self.trainer.control)
        except BaseException as failure:  # the waiting thread raises it
            self._has_ended = True
            self._idle.put(failure)

    def _hold(self) -> None:
        """Report the last step to rft's thread, and wait for `close`. TRL calls this after the last step."""
        if self._closing:
            return
        self._idle.put(None)
        if self._batches.get() is not None:
            raise LearnError(f"TRL has taken all {self.steps_done} steps; it takes no more groups")

    def _rollouts(self, prompts: list[str], trainer: GRPOTrainer) -> dict[str, list[Any]]:
        """Report the last step to rft's thread, and wait for the next groups. TRL calls this for completions."""
        self._idle.put(None)
        groups = self._batches.get()
        if groups is None:
            raise _Stop
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        if len(rollouts) != len(prompts):
            raise LearnError(f"TRL needs {len(prompts)} completions for a step but received {len(rollouts)}")
        return {
            "prompt_ids": [list(rollout.prompt_ids) for rollout in rollouts],
            "completion_ids": [list(rollout.completion_ids) for rollout in rollouts],
            "logprobs": [list(rollout.logprobs) for rollout in rollouts],
            "reward": [reward for group in groups for reward in group.rewards],
            "truncated": [rollout.stop is not StopReason.STOP for rollout in rollouts],
        }


def _graded(prompts: list[str], completions: list[str], reward: list[float | None], **_: Any) -> list[float | None]:
    """Return the rewards that TRL passes as a column: the reward function for TRL."""
    return reward


_graded.__name__ = "graded"


def _numbers(history: Sequence[Mapping[str, Any]], *, after: int) -> dict[str, float]:
    """Return TRL's metrics of the steps after a step, without counters such as `num_tokens`.

    Of several optimizer steps on one batch, the last value of each metric counts. Some metrics, such as the sampler's
    gap, exist only in the first.
    """
    entries = [entry for entry in history if entry.get("step", 0) > after and "loss" in entry]
    return {
        name: float(value)
        for entry in entries
        for name, value in entry.items()
        if isinstance(value, int | float) and name not in ("step", "epoch", "num_tokens", "step_time")
    }
