"""The learner of `learner=sft`: trains a policy on demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peft import PeftConfig

from rft.config.learners.sft import SftLearnerConfig
from rft.data.demonstration_records import TokenRow
from rft.learning.checkpoints import unfinished_folder
from rft.learning.packing import check_packing
from rft.learning.sft_trainer import SteppedSftTrainer
from rft.learning.trl_learner import TrlLearner, precision_options

_ANY_TOKENS = (tuple(range(8)), tuple(range(4)))
"""Sequences that prove packing if the prompts are empty, so that there are no canaries."""


class SftLearner(TrlLearner):
    """Trains a policy on token rows in this process."""

    def _stepped_trainer(self, model: Any, tokenizer: Any, adapter: PeftConfig | None) -> SteppedSftTrainer:
        learner = self._spec.run.learner
        assert isinstance(learner, SftLearnerConfig)  # no other configuration names this class
        stepped = SteppedSftTrainer(
            model=model,
            tokenizer=tokenizer,
            options=self._arguments(learner),
            adapter=adapter,
            timeout_s=learner.step_timeout_s,
            rows_per_micro_batch=self._spec.completions_per_micro_batch,
            packing=learner.packing,
            ranks=self._ranks,
        )
        if learner.packing:
            with stepped.trainer.compute_loss_context_manager():
                check_packing(stepped.trainer.model, self._spec.canaries or _ANY_TOKENS, dtype=self._spec.dtype)
        return stepped

    def losses(self, rows: Sequence[TokenRow]) -> list[float]:
        """Return `[N]` negative log-likelihoods of rows, each the sum over its trained tokens."""
        stepped = self._stepped
        assert isinstance(stepped, SteppedSftTrainer)  # from `_stepped_trainer`
        losses: list[float] = stepped.losses(rows)
        return losses

    def _check(self, batch: Sequence[Any]) -> None:
        """Do nothing: demonstrations belong to no policy."""

    def _arguments(self, learner: SftLearnerConfig) -> dict[str, Any]:
        """Return the arguments of `SFTConfig`."""
        spec = self._spec
        return {
            "output_dir": str(unfinished_folder(spec.run_folder)),
            "max_steps": spec.run.loop.steps,
            "per_device_train_batch_size": spec.completions_per_micro_batch,
            "learning_rate": learner.learning_rate,
            "lr_scheduler_type": learner.schedule,
            "warmup_steps": learner.warmup_steps,
            "weight_decay": learner.weight_decay,
            "max_grad_norm": learner.max_grad_norm,
            "max_length": None,  # rft refuses rows that are too long, and TRL would cut them
            "dataset_kwargs": {"skip_prepare_dataset": True},
            "seed": spec.run.seed,
            **precision_options(spec),
        }
