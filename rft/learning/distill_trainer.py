"""On-policy distillation: the student learns from a teacher at the tokens that the student has sampled.

Without `teacher.top_logprobs`, the advantage of a token is the teacher's log-probability minus the sampler's. The
student has sampled the token, so the gradient estimates that of the reverse KL divergence from student to teacher at
the states that the student reaches (arXiv 2306.13649). The influence of a token on later states does not count.

With it, the loss is the divergence itself at each of these states, over the teacher's most probable tokens and the rest
(`rft.learning.divergence`). Its gradient has no noise from the choice of the token, only from that of the states.

Assumptions about TRL 1.16, besides those of trl_trainer.py:
- `_compute_loss` accepts advantages of shape `[B, T]`;
- the value of a column of `rollout_func` may be a tuple or None;
- the loss `dapo` is the sum over the counted tokens divided by `num_items_in_batch`, times the importance ratio.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor

from rft.config.learners.distill import DistillLearnerConfig
from rft.errors import LearnError
from rft.learning.divergence import coarse_logprobs, divergence, with_rest
from rft.learning.micro_batches import trained_mask
from rft.learning.trl_trainer import LeanTrainer
from rft.types import TopTokens


class DistillTrainer(LeanTrainer):
    """LeanTrainer that learns from the log-probabilities of a teacher.

    Args:
        learner: The algorithm's settings.
        arguments: Arguments of LeanTrainer.
    """

    def __init__(self, *, learner: DistillLearnerConfig, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._beta = learner.jsd_beta
        base = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        self._keeps_logits = "logits_to_keep" in inspect.signature(base.forward).parameters
        self._teacher_logprobs: list[tuple[float, ...] | None] = []
        self._teacher_top: list[TopTokens | None] = []

    def _calculate_rewards(self, inputs: Any, *arguments: Any) -> Tensor:
        """Return TRL's rewards; keep the teacher's log-probabilities.

        Raises:
            LearnError: The groups have none.
        """
        if "teacher_logprobs" not in inputs[0]:
            raise LearnError("learner=distill got groups without log-probabilities of a teacher")
        self._teacher_logprobs = [row["teacher_logprobs"] for row in inputs]
        self._teacher_top = [row["teacher_top"] for row in inputs if "teacher_top" in row]
        return super()._calculate_rewards(inputs, *arguments)

    def _advantages(self, batch: dict[str, Any]) -> Tensor:
        """Return `[N, T]` advantages; remove completions that the teacher could not score from `completion_mask`."""
        sampled_nt = batch["sampling_per_token_logps"]
        teacher_nt = torch.zeros_like(sampled_nt)
        is_scored_n = torch.tensor([row is not None for row in self._teacher_logprobs], device=sampled_nt.device)
        for number, row in enumerate(self._teacher_logprobs):
            if row is not None:
                teacher_nt[number, : len(row)] = torch.tensor(row, device=sampled_nt.device)
        batch["completion_mask"] = batch["completion_mask"] * is_scored_n.unsqueeze(1)
        mask_nt = trained_mask(batch)
        batch["num_items_in_batch"] = mask_nt.sum()
        advantages_nt = (teacher_nt - sampled_nt) * mask_nt
        if mask_nt.any():
            self._metrics["train"]["reverse_kl"].append((-advantages_nt.sum() / mask_nt.sum()).item())
        if self._teacher_top:
            batch |= _padded(self._teacher_top, width=sampled_nt.shape[1], device=sampled_nt.device)
        return advantages_nt

    def _teaching(self, batch: dict[str, Any], counted: Tensor) -> Tensor:
        """Return all counted completions; hardly any has advantages that are all 0."""
        return counted

    def _policy_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """Return the mean divergence over the step's tokens; without the teacher's top tokens, TRL's loss."""
        if "teacher_top_ids" not in inputs:
            return super()._policy_loss(model, inputs)
        logprobs_btv = self._all_logprobs(model, inputs)
        ids_btk, teacher_btk = inputs["teacher_top_ids"].long(), inputs["teacher_top_logprobs"]
        vocabulary = logprobs_btv.shape[-1]
        # A teacher may have rows for more tokens than the tokenizer has.
        is_known_btk = (teacher_btk > -math.inf) & (ids_btk < vocabulary)
        teacher_btk = with_rest(teacher_btk, is_known_btk, vocabulary=vocabulary)
        student_btk = coarse_logprobs(logprobs_btv, ids_btk, is_known_btk)
        loss_bt = divergence(student_btk, teacher_btk, beta=self._beta)
        mask_bt = trained_mask(inputs)
        with torch.no_grad():
            sampled_bt = logprobs_btv.gather(-1, inputs["completion_ids"].unsqueeze(-1)).squeeze(-1)
            if "old_per_token_logps" not in inputs:  # the first optimizer step on this batch
                inputs["old_per_token_logps"] = sampled_bt
                self._compare(sampled_bt, inputs)
            # Row by row, because each takes the memory of its logits again.
            entropy_bt = torch.stack([torch.special.entr(row.exp()).sum(-1) for row in logprobs_btv])
            metrics = {"divergence": loss_bt, "entropy": entropy_bt}
            self._record(metrics | {"teacher_rest": teacher_btk[..., -1].exp()}, mask_bt)
        if self._corrects:
            loss_bt = loss_bt * inputs["importance_sampling_ratio"]
        return (loss_bt * mask_bt).sum() / inputs["num_items_in_batch"].clamp(min=1)

    def _all_logprobs(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """Return `[B, T, V]` log-probabilities at the completion tokens, in float32 and at the sampling temperature."""
        width = inputs["completion_ids"].shape[1]
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        few = {"logits_to_keep": width + 1} if self._keeps_logits else {}
        with self.accelerator.autocast():
            logits = model(input_ids=ids, attention_mask=attention, use_cache=False, **few).logits
        logits_btv = logits[:, -width - 1 : -1].float()
        return torch.log_softmax(logits_btv if self.temperature == 1 else logits_btv / self.temperature, -1)

    def _record(self, metrics: dict[str, Tensor], mask_bt: Tensor) -> None:
        """Record the means of `[B, T]` metrics over the counted tokens."""
        tokens = mask_bt.sum().clamp(min=1)
        for name, values_bt in metrics.items():
            self._metrics["train"][name].append(((values_bt * mask_bt).sum() / tokens).item())


def _padded(tops: list[TopTokens | None], *, width: int, device: Any) -> dict[str, Tensor]:
    """Return `[N, T, K]` ids and log-probabilities, -infinity where a completion, or its teacher, has fewer tokens."""
    shape = len(tops), width, max((top.k for top in tops if top is not None), default=1)
    ids, logprobs = np.zeros(shape, np.int32), np.full(shape, -np.inf, np.float32)
    for number, top in enumerate(tops):
        if top is not None:
            for padded, part in ((ids, np.array(top.ids)), (logprobs, np.array(top.logprobs))):
                rows = part.reshape(-1, top.k)
                padded[number, : len(rows), : top.k] = rows
    return {
        "teacher_top_ids": torch.from_numpy(ids).to(device),
        "teacher_top_logprobs": torch.from_numpy(logprobs).to(device),
    }
