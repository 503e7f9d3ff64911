"""The trainer of algorithms that compare the policy with the start of the run, one completion at a time.

Their loss is a function of log-ratios (rft.learning.preference_losses). A pass without a gradient, and
without dropout, computes them. The derivative of the loss with respect to the log-ratio of a completion, with its sign
changed, becomes the advantage of all tokens of the completion. TRL's loss with this advantage has the same gradient,
for any division into micro-batches and ranks.

Assumptions about TRL 1.16, besides those of trl_trainer.py (tests/learning/test_dpo_trainer.py compares with TRL's
DPOTrainer):
- with `beta` above 0, GRPOTrainer keeps the model that it was given as the reference: in `ref_model` if all weights are
  trained; in a second adapter named `ref` if the model came with an adapter; else it is the model without its adapter;
- the loss `dapo` divides the sum over tokens by `num_items_in_batch`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from rft.config.learners.preference import PreferenceLearnerConfig
from rft.learning.micro_batches import plan, share, take, trained_mask
from rft.learning.preference_losses import Metrics
from rft.learning.trl_import import use_adapter
from rft.learning.trl_trainer import LeanTrainer

Loss = Callable[[Tensor], tuple[Tensor, Metrics]]
"""Returns the loss of `[N]` log-ratios, and metrics."""


class PreferenceTrainer(LeanTrainer):
    """LeanTrainer whose loss is a function of the completions' log-ratios.

    Args:
        learner: The algorithm's settings.
        arguments: Arguments of LeanTrainer.
    """

    def __init__(self, *, learner: PreferenceLearnerConfig, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._settings = learner
        self._step_loss = 0.0
        self.beta = 0.0  # TRL has made the reference; in its loss, beta would add a KL term

    def _compared(self, batch: dict[str, Any]) -> tuple[Sequence[int], Loss]:
        """Return the completions in the loss, by row, and the loss; count what is left out in the metrics."""
        raise NotImplementedError

    def _advantages(self, batch: dict[str, Any]) -> Tensor:
        """Return `[N]` advantages: the derivatives of the loss with their signs changed, 0 outside the loss."""
        rows, loss_of = self._compared(batch)
        batch["num_items_in_batch"] = torch.ones((), device=self._rewards.device)
        if not rows:
            self._step_loss = 0.0
            return torch.zeros_like(self._rewards)
        ratios_n = self._log_ratios(batch, rows).requires_grad_()
        loss, metrics = loss_of(ratios_n)
        (derivatives_n,) = torch.autograd.grad(loss, ratios_n)
        self._step_loss = loss.item()
        self._report({f"{self._settings.kind}/{name}": value for name, value in metrics.items()})
        advantages_n: Tensor = -derivatives_n
        return advantages_n

    def _rewards_and_lengths(self, batch: dict[str, Any]) -> tuple[list[float | None], list[int]]:
        """Return `[N]` rewards, None if missing or if the loss excludes the completion, and `[N]` lengths."""
        lengths_n = trained_mask(batch).sum(1)
        is_missing_n = self._rewards.isnan() | (lengths_n == 0)
        rewards = zip(self._rewards.tolist(), is_missing_n.tolist(), strict=True)
        return [None if is_missing else reward for reward, is_missing in rewards], lengths_n.tolist()

    def _report(self, metrics: Metrics) -> None:
        for name, value in metrics.items():
            self._metrics["train"][name].append(value)

    def _log_ratios(self, batch: dict[str, Any], rows: Sequence[int]) -> Tensor:
        """Return `[N]` log-ratios, 0 for all but the given rows. Each rank computes its share, and all get the sum.

        It keeps the log-probabilities under the start, by token.
        """
        mask = batch["completion_mask"]
        prompts, lengths = batch["prompt_mask"].sum(1).tolist(), mask.sum(1).tolist()
        every = plan(prompts, lengths, rows, size=self._size, ranks=self._ranks.of)
        ratios_n = torch.zeros(len(mask), device=mask.device)
        start_nt = torch.zeros(mask.shape, device=mask.device)
        with torch.no_grad(), self._without_dropout():
            for micro_batch in share(every, prompts, lengths, ranks=self._ranks.of)[self._ranks.number]:
                part = take(batch, micro_batch)
                policy_bt = self._logprobs(self.model, part)
                with self._reference() as reference:
                    reference_bt = self._logprobs(reference, part)
                ratios_n[micro_batch] = policy_bt.sum(1) - reference_bt.sum(1)
                start_nt[micro_batch, : reference_bt.shape[1]] = reference_bt
        self._ranks.add_up([ratios_n, start_nt])
        self._start_logprobs = start_nt.cpu()
        left_out = [row for row in range(len(mask)) if row not in set(rows)]
        self._start_logprobs[left_out] = math.nan
        return ratios_n

    def _logprobs(self, model: Any, part: dict[str, Any]) -> Tensor:
        """Return `[B, T]` log-probabilities of the trained tokens, 0 for others."""
        ids, attention = (
            torch.cat([part[f"prompt_{kind}"], part[f"completion_{kind}"]], dim=1) for kind in ("ids", "mask")
        )
        width = part["completion_ids"].shape[1]
        logprobs = self._get_per_token_logps_and_entropies(model, ids, attention, width)[0]
        trained: Tensor = logprobs.float() * trained_mask(part)
        return trained

    @contextmanager
    def _without_dropout(self) -> Iterator[None]:
        """Disable the adapter's dropout, which would move the policy away from the start even before the first step."""
        was_training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(was_training)

    @contextmanager
    def _reference(self) -> Iterator[Any]:
        """Yield the model of the start of the run."""
        if self.ref_model is not None:
            yield self.ref_model
            return
        model = self.accelerator.unwrap_model(self.model)
        with use_adapter(model, adapter_name="ref" if "ref" in model.peft_config else None):
            yield self.model

    def log(self, logs: dict[str, float], *arguments: Any, **options: Any) -> None:
        """Log like LeanTrainer, with the loss itself; TRL's number only has the same gradient."""
        if "loss" in logs:
            logs["loss"] = self._step_loss
        super().log(logs, *arguments, **options)
