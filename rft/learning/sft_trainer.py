"""TRL's SFTTrainer on token rows that rft has rendered, one optimizer step at a time.

rft decides which tokens are trained. TRL neither renders, tokenizes, truncates nor masks anything; it keeps the loss,
the optimizer and the checkpoints. The loss of a step is the mean negative log-likelihood of its trained tokens,
whatever the size of the micro-batches.

Assumptions about TRL 1.16 and Transformers 5.19 (tests/learning/test_sft_learner.py compares with TRL's own trainer):
- the trainer iterates over the result of `get_train_dataloader`, and calls `training_step(model, inputs)` for each
  item;
- `training_step` adds the gradients of `compute_loss`, which divides the sum over the tokens by `num_items_in_batch`;
- a label of -100 is not trained, and the label of a token is compared with the prediction of the token before it.
- `compute_loss` passes `use_cache=False`, on which packing depends (rft.learning.packing);
- with `fused_lm_head=True`, the model returns `[N, T - 1]` `log_probs`, 0 for tokens that are not trained;
- TRL averages `_metrics["train"]`, which has one value for each micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypedDict

import torch
from datasets import Dataset
from peft import PeftConfig
from torch import Tensor

from rft.data.demonstration_records import TokenRow
from rft.learning import trl_import  # noqa: F401  # keeps vLLM out of TRL
from rft.learning.packing import NOT_TRAINED, packed
from rft.learning.ranks import Ranks
from rft.learning.trainer_thread import TrainerThread

from trl import SFTConfig, SFTTrainer  # isort: skip  # after trl_import


class _Step(TypedDict):
    """The step of a rank."""

    micro_batches: list[dict[str, Tensor]]
    """This rank's micro-batches."""
    num_trained: Any
    """Trained tokens of all ranks' micro-batches together."""


class SteppedSftTrainer(TrainerThread[Sequence[TokenRow]]):
    """SFTTrainer, one batch of token rows at a time.

    Args:
        model: The base model, or the model with the adapter to train further.
        tokenizer: The model's tokenizer.
        options: Arguments of TRL's `SFTConfig`, with `max_steps`.
        adapter: The adapter to add and train; None trains the weights of the model, or its adapter.
        timeout_s: Deadline for the start of the trainer and for each step, seconds.
        rows_per_micro_batch: Rows in one forward and backward pass.
        packing: Whether the rows of a micro-batch follow each other in one row, instead of being padded.
        ranks: The processes that train together. Each receives whole steps, and computes its share.
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
        packing: bool,
        ranks: Ranks,
    ) -> None:
        super().__init__(timeout_s=timeout_s)
        self._rows_per_micro_batch = rows_per_micro_batch
        self._batch_of = packed if packing else padded
        self._ranks = ranks
        self.use(
            _RowTrainer(
                next_step=self._next_step,
                ranks=ranks,
                model=model,
                args=SFTConfig(**options),
                processing_class=tokenizer,
                peft_config=adapter,
                # TRL requires a dataset; the rows come from rft's loop.
                train_dataset=Dataset.from_dict({"input_ids": [[0]], "labels": [[0]]}),
            )
        )

    def _next_step(self) -> _Step:
        """Return the micro-batches of this rank in the next step. All ranks divide all rows alike."""
        rows = self.next_batch()
        size = min(self._rows_per_micro_batch, max(1, len(rows) // self._ranks.of))
        every = [self._batch_of([rows[number] for number in numbers]) for numbers in by_length(rows, size)]
        num_trained = sum((batch["labels"][:, 1:] != NOT_TRAINED).sum() for batch in every)
        return {"micro_batches": every[self._ranks.number :: self._ranks.of], "num_trained": num_trained}

    @torch.no_grad()
    def losses(self, rows: Sequence[TokenRow]) -> list[float]:
        """Return `[N]` negative log-likelihoods of rows, each the sum over its trained tokens, without dropout.

        Only between two steps, while the trainer's thread waits.
        """
        losses, trainer = [0.0] * len(rows), self.trainer
        was_training = trainer.model.training
        trainer.model.eval()
        try:
            with trainer.compute_loss_context_manager():
                for numbers in by_length(rows, self._rows_per_micro_batch):
                    batch = trainer._prepare_inputs(padded([rows[number] for number in numbers]))
                    logprobs = trainer.model(**batch, use_cache=False, fused_lm_head=True).log_probs
                    for number, loss in zip(numbers, (-logprobs.float().sum(-1)).tolist(), strict=True):
                        losses[number] = loss
        finally:
            trainer.model.train(was_training)
        return losses


class _RowTrainer(SFTTrainer):  # type: ignore[misc]  # TRL is not followed
    """SFTTrainer whose steps consist of given micro-batches, with gradients that several ranks sum.

    Args:
        next_step: Returns the next step.
        ranks: The processes that train together.
        arguments: Arguments of SFTTrainer.
    """

    def __init__(self, *, next_step: Callable[[], _Step], ranks: Ranks, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._next_step = next_step
        self._ranks = ranks

    def trained(self) -> list[Tensor]:
        """Return the trained weights."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def get_train_dataloader(self) -> Any:
        """Return the steps."""
        return _Steps(self._next_step)

    def training_step(self, model: Any, inputs: _Step, num_items_in_batch: Any = None) -> Tensor:
        """Add the gradients of all micro-batches of a step, from all ranks; return the loss of the step."""
        number, device = self.state.global_step, self.accelerator.device
        with self._ranks.own_randomness(seed=self.args.seed, number=number, device=device):
            losses = [
                super(_RowTrainer, self).training_step(model, batch, inputs["num_trained"])
                for batch in inputs["micro_batches"]
            ]
        loss = torch.stack(losses).sum() if losses else torch.zeros((), device=device)
        if self._ranks.of > 1:
            self._join_ranks(loss)
        return loss

    def _join_ranks(self, loss: Tensor) -> None:
        """Sum gradients and loss over all ranks, and let rank 0 report the metrics of all micro-batches."""
        for parameter in self.trained():
            if parameter.grad is None:  # this rank has no micro-batch
                parameter.grad = torch.zeros_like(parameter)
        self._ranks.add_up([*(parameter.grad for parameter in self.trained()), loss])
        for other in self._ranks.collect(dict(self._metrics["train"]))[1:]:
            for name, values in other.items():
                self._metrics["train"][name] += values


class _Steps:
    """The steps of a trainer, as its data loader."""

    def __init__(self, next_step: Callable[[], _Step]) -> None:
        self._next_step = next_step

    def __iter__(self) -> Iterator[_Step]:
        while True:
            yield self._next_step()


def by_length(rows: Sequence[TokenRow], size: int) -> list[list[int]]:
    """Return the numbers of rows in groups of at most `size` and of similar length, the longest first."""
    order = sorted(range(len(rows)), key=lambda number: -len(rows[number].ids))
    return [order[start : start + size] for start in range(0, len(order), size)]


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
