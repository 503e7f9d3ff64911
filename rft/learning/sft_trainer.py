"""TRL's SFTTrainer on token rows that rft has rendered, one optimizer step at a time.

rft decides which tokens are trained. TRL neither renders, tokenizes, truncates nor masks anything; it keeps the loss,
the optimizer and the checkpoints. The loss of a step is the mean negative log-likelihood of its trained tokens,
whatever the size of the micro-batches.

Assumptions about TRL 1.16 and Transformers 5.19 (tests/learning/test_sft_learner.py compares with TRL's own trainer):
- the trainer iterates over the result of `get_train_dataloader`, and calls `training_step(model, inputs)` for each
  item;
- `training_step` adds the gradients of `compute_loss`, which divides the sum over the tokens by `num_items_in_batch`;
- a label of -100 is not trained, and the label of a token is compared with the prediction of the token before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from peft import PeftConfig
from torch import Tensor

from rft.data.demonstration_records import TokenRow
from rft.learning import trl_import  # noqa: F401  # keeps vLLM out of TRL
from rft.learning.trainer_thread import TrainerThread

from trl import SFTConfig, SFTTrainer  # isort: skip  # after trl_import

NOT_TRAINED = -100
"""Label of a token without a loss."""


class SteppedSftTrainer(TrainerThread[Sequence[TokenRow]]):
    """SFTTrainer, one batch of token rows at a time.

    Args:
        model: The base model, or the model with the adapter to train further.
        tokenizer: The model's tokenizer.
        options: Arguments of TRL's `SFTConfig`, with `max_steps`.
        adapter: The adapter to add and train; None trains the weights of the model, or its adapter.
        timeout_s: Deadline for the start of the trainer and for each step, seconds.
        rows_per_micro_batch: Rows in one forward and backward pass.
    """

    def __init__(
        self,
        *,
        model: Any,
        tokenizer: Any,
        options: Mapping[str, Any],
        adapter: PeftConfig | None,
        timeout_s: float,
        rows_per_micro_batch: int,
    ) -> None:
        super().__init__(timeout_s=timeout_s)
        self._rows_per_micro_batch = rows_per_micro_batch
        self.use(
            _RowTrainer(
                micro_batches=self._micro_batches,
                model=model,
                args=SFTConfig(**options),
                processing_class=tokenizer,
                peft_config=adapter,
                # TRL requires a dataset; the rows come from rft's loop.
                train_dataset=Dataset.from_dict({"input_ids": [[0]], "labels": [[0]]}),
            )
        )

    def _micro_batches(self) -> list[dict[str, Tensor]]:
        """Return the micro-batches of the next step, of rows of similar length."""
        rows = sorted(self.next_batch(), key=lambda row: len(row.ids), reverse=True)
        size = self._rows_per_micro_batch
        return [padded(rows[start : start + size]) for start in range(0, len(rows), size)]


class _RowTrainer(SFTTrainer):  # type: ignore[misc]  # TRL is not followed
    """SFTTrainer whose steps consist of given micro-batches.

    Args:
        micro_batches: Returns those of the next step.
        arguments: Arguments of SFTTrainer.
    """

    def __init__(self, *, micro_batches: Callable[[], list[dict[str, Tensor]]], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._micro_batches = micro_batches

    def get_train_dataloader(self) -> Any:
        """Return the steps."""
        return _Steps(self._micro_batches)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Add the gradients of all micro-batches of a step; return the loss of the step."""
        micro_batches = inputs["micro_batches"]
        num_trained = sum((batch["labels"][:, 1:] != NOT_TRAINED).sum() for batch in micro_batches)
        losses = [super(_RowTrainer, self).training_step(model, batch, num_trained) for batch in micro_batches]
        return torch.stack(losses).sum()


class _Steps:
    """The steps of a trainer, as its data loader."""

    def __init__(self, micro_batches: Callable[[], list[dict[str, Tensor]]]) -> None:
        self._micro_batches = micro_batches

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            yield {"micro_batches": self._micro_batches()}


def padded(rows: Sequence[TokenRow]) -> dict[str, Tensor]:
    """Return `[N, T]` ids, attention mask and labels of rows, padded on the right."""
    longest = max(len(row.ids) for row in rows)
    shape = (len(rows), longest)
    ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, NOT_TRAINED)
    for number, row in enumerate(rows):
        own = torch.tensor(row.ids)
        ids[number, : len(own)], mask[number, : len(own)] = own, 1
        labels[number, : len(own)] = torch.where(torch.tensor(row.trained), own, NOT_TRAINED)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
