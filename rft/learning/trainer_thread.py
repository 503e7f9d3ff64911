"""TRL's trainer in a thread, one batch at a time.

TRL's trainers have their own loop. rft runs the loop in a thread, which waits for each batch of rft's loop in
`next_batch`. Both loops stay intact, and the trainer's optimizer, scheduler, precision and checkpoints work as
documented by TRL.

Assumptions about TRL 1.16 and Transformers 5.19 (a test fails if one of them changes):
- `trainer._save_checkpoint(model, trial)` writes a checkpoint, and `trainer._load_rng_state(checkpoint)` restores its
  random state;
- the trainer calls `trainer.callback_handler.callbacks` in the order of the list.
"""

from __future__ import annotations

import queue
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from transformers import TrainerCallback

from rft.errors import LearnerLost, LearnError

B = TypeVar("B")


class _Stop(Exception):
    """Ends the trainer's thread."""


class _HoldAtEnd(TrainerCallback):  # type: ignore[misc]  # TRL and Transformers are not followed
    """Calls `hold` when training ends."""

    def __init__(self, hold: Callable[[], None]) -> None:
        self._hold = hold

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Call `hold`."""
        self._hold()


class TrainerThread(Generic[B]):
    """TRL's trainer, one batch at a time. A subclass makes the trainer, which calls `next_batch`.

    Args:
        timeout_s: Deadline for the start of the trainer and for each batch, seconds.
        steps_per_batch: Optimizer steps on each batch.
    """

    trainer: Any
    """TRL's trainer; `use` sets it."""

    def __init__(self, *, timeout_s: float, steps_per_batch: int = 1) -> None:
        self._batches: queue.Queue[B | None] = queue.Queue()
        self._idle: queue.Queue[BaseException | None] = queue.Queue()
        self._timeout_s = timeout_s
        self._steps_per_batch = steps_per_batch
        self._closing = False
        self._has_ended = False
        self._thread: threading.Thread | None = None

    def use(self, trainer: Any) -> None:
        """Use this trainer. It must not end its training before `close`, since checkpoints follow the last step."""
        self.trainer = trainer
        trainer.callback_handler.callbacks.insert(0, _HoldAtEnd(self._hold))

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
        """Number of learned batches."""
        return int(self.trainer.state.global_step) // self._steps_per_batch

    def step(self, batch: B) -> dict[str, float]:
        """Take the optimizer steps of one batch and return TRL's metrics.

        Raises:
            LearnError: The trainer failed, now or earlier, or took another number of steps.
        """
        if self._has_ended:
            raise LearnError("TRL's trainer has ended; it takes no more groups")
        before = self.steps_done
        self._batches.put(batch)
        self._wait_until_idle(f"optimizer step {before + 1}")
        if self.steps_done != before + 1:
            taken = self.trainer.state.global_step - before * self._steps_per_batch
            raise LearnError(f"TRL took {taken} optimizer steps on one batch, not {self._steps_per_batch}")
        history = self.trainer.state.log_history
        numbers = _numbers(history, after=before * self._steps_per_batch)
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

    def next_batch(self) -> B:
        """Report the last step to rft's thread, and wait for the next batch. The trainer's thread calls this."""
        self._idle.put(None)
        batch = self._batches.get()
        if batch is None:
            raise _Stop
        return batch

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
